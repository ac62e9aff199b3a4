"""Datasets of the Hugging Face Hub that lie on this machine, as `datasets` and the Hub store them."""
