"""Matches the tensors of a file with the parameters of a model, fits them and reports."""
