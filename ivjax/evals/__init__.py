"""What a trained model can do: retrieval, zero-shot recognition."""
