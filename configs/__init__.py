"""Shipped experiments: one file, one experiment."""
