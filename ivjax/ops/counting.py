"""Counts that options need before anything is computed. Imports no jax."""


def visible_count(patches: int, ratio: float) -> int:
    """Visible patches out of `patches` under mask ratio `ratio`, rounded as the originals round."""
    # int() cuts the hidden share: of 256 patches at 0.8 there are 204 hidden and 52 visible.
    return patches - int(patches * ratio)
