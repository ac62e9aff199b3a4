"""How each suite scores the vectors of a test set."""
