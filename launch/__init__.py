"""One experiment -> processes somewhere."""
