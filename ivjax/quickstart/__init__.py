"""Stage 1 in miniature, through the commands that a user would type."""
