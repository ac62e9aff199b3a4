"""Flax modules, one file per published architecture, presets beside the class that they size."""
