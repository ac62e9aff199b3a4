"""Evals of trained models: retrieval, recognition, multiple choice, probes."""
