"""The two stages of InternVideo-Next's pre-training."""
