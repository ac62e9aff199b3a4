"""Parameter-free jitted maths: arrays in, arrays out. Knows only jax."""
