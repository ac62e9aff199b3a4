"""Stored clips: records, shards, their manifest, and TFDS's layout of them."""
