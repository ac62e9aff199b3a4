"""Embeddings of many videos and captions in one file, and searching them."""
