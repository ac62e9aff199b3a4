"""Annotations as they come: each source yields rows, and says what is wrong with the others."""
