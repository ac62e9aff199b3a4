"""A model as a folder with a card, as the Hugging Face Hub takes it."""
