"""VideoMAE's encoder, and the autoencoder that pretrains it."""
