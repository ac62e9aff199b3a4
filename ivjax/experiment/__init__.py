"""The typed experiment: options, overrides, storing. The bottom floor: imports no jax, Flax or Orbax."""
