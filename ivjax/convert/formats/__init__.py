"""Files of weights: safetensors and torch files, read and written one tensor at a time."""
