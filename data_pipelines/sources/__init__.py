"""Readers of annotation files. Each yields rows, and bad rows with the reason why they are bad."""
