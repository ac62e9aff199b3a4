"""Videos: decoding, encoding, source files, camera cuts, filters, sound, the cache of decoded frames."""
