"""The stored clip: records, shards and their manifest."""
