"""A run folder -> pictures."""
