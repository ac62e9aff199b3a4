"""From an order of clips through worker processes to global batches."""
