"""The one train loop and what it stands on. Never names a stage: it is given one."""
