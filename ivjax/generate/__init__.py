"""Generation: prefill in chunks, decoding with a cache of fixed length, sampling."""
