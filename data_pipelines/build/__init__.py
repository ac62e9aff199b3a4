"""Annotations and videos -> a corpus of clips: plan, cut, filter, encode, shard; restartable."""
