"""Facts about runs: read from their folders, or computed from their checkpoints and corpora."""
