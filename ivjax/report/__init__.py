"""A page about one or several runs, and the pictures in it."""
