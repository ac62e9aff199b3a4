"""Counts that options need before anything is computed. Imports no jax."""


def visible_count(patches: int, ratio: float) -> int:
    """Visible patches out of `patches` under mask ratio `ratio`, rounded as the originals round."""
    return patches - int(patches * ratio)
