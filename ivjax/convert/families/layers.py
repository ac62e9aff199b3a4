"""Rows of the layers that the family's original models share."""

from ivjax.convert.engine.rows import TRANSPOSE, Row, Transform

# torch's Linear has its outputs first, here inputs are first; and the three are apart, so that each product
# is one of its own (models/layers.py).
QKV = Transform(
    lambda w: w.reshape(3, -1, w.shape[1]).transpose(0, 2, 1),  # (3C, C) -> (3, C, C)
    lambda k: k.transpose(0, 2, 1).reshape(-1, k.shape[1]),
)
QKV_BIAS = Transform(lambda b: b.reshape(3, -1), lambda b: b.reshape(-1))
PATCH = Transform(
    lambda w: w.transpose(2, 3, 4, 1, 0),  # (C, 3, t, p, p) -> (t, p, p, 3, C)
    lambda k: k.transpose(4, 3, 0, 1, 2),
)
# CLIP's patches are of images: as long as kernels have one tap in time, its files leave that axis out.
IMAGE_PATCH = Transform(
    lambda w: PATCH.load(w[:, :, None] if w.ndim == 4 else w),
    lambda k: PATCH.save(k)[:, :, 0] if len(k) == 1 else PATCH.save(k),
)


def linear(source: str, target: str, bias: bool = True) -> list[Row]:
    """Rows of a torch Linear."""
    rows = [Row(f"{source}.weight", f"{target}/kernel", TRANSPOSE)]
    return rows + [Row(f"{source}.bias", f"{target}/bias")] if bias else rows


def norm(source: str, target: str, bias: bool = True) -> list[Row]:
    """Rows of a torch LayerNorm, or of an RMSNorm without bias."""
    rows = [Row(f"{source}.weight", f"{target}/scale")]
    return rows + [Row(f"{source}.bias", f"{target}/bias")] if bias else rows


def apart(source: str, target: str, parts: tuple[str, str, str], bias: bool = True) -> list[Row]:
    """Rows of queries, keys and values that are Linear layers of their own: `{part}` in `source`."""
    rows = [Row(f"{source}.weight", f"{target}/kernel", TRANSPOSE, parts=parts)]
    return rows + [Row(f"{source}.bias", f"{target}/bias", parts=parts)] if bias else rows
