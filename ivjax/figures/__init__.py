"""Figures of numbers, written as PNG files."""
