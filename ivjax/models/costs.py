"""Analytic FLOPs of layers that several families share (two per multiply-add, matrix products only)."""


def blocks(width: int, depth: int, mlp_width: int, tokens: int) -> float:
    """All transformer blocks on `tokens` tokens."""
    # Queries, keys, values and the projection are four square products; the MLP
    # has two of width x mlp_width.
    per_token = 4 * width**2 + 2 * width * mlp_width
    # The last term is attention: logits and weighted values, each a product of tokens x tokens x width.
    return depth * (2.0 * tokens * per_token + 4.0 * tokens**2 * width)


def patch_embed(pixels: int, width: int, tokens: int) -> float:
    """Embedding of `tokens` patches of `pixels` pixels in three colours."""
    return 2.0 * tokens * pixels * 3 * width


def attention_pool(width: int, out: int, tokens: int) -> float:
    """Keys and values of all tokens; the one query and its attention."""
    return 2.0 * width * (width * (2 * tokens + 1) + 2 * tokens + out)


def with_backward(forward: dict[str, float]) -> dict[str, float]:
    """Forward + backward: three times the forward, twice where the input (pixels) needs no gradient."""
    # A product's backward pass has two of its size: one for the kernel, one for the input.
    return {layer: flops * (2 if layer == "patch_embed" else 3) for layer, flops in forward.items()}
