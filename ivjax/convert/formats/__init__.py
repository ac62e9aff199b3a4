"""Files of weights, read and written one tensor at a time; and the checkpoints of run folders."""
