"""Videos: decoding, encoding, shots, filters."""
