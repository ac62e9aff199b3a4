"""Many runs of one config: planned, trained, compared."""
