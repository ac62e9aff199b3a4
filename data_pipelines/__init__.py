"""From videos on disk to global batches."""
