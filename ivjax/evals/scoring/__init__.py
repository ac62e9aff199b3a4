"""The scoring of each suite: from the vectors of a test set to metrics."""
