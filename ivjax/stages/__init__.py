"""Stages of training: a stage is its parameters, its loss, and the batch that it wants."""
