"""Dialogue models and their parts: vision towers, bridges, language models."""
