"""Tools for built corpora: validation, statistics, contact sheets."""
