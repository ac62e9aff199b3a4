"""Text to token ids, from vocabulary files that lie on this machine."""
