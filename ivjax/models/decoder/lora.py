"""Additions of low rank (LoRA) as a branch `lora` of a language model's parameters.

Its paths are those of the layers: `lora/blocks/attn/q/a` and `b` belong to `blocks/attn/q/kernel`.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ivjax.models.decoder.sizes import LanguageSize
from ivjax.ops.cut import Params


def kernel_with_lora(kernel: Any, a: Any, b: Any, scale: float) -> Any:
    """Returns a kernel (..., C, O) with factors a (..., C, r) and b (..., r, O), in the kernel's dtype."""
    wide = kernel.astype(np.float32) + scale * (a.astype(np.float32) @ b.astype(np.float32))
    return wide.astype(kernel.dtype)


def merged(params: Params, size: LanguageSize) -> tuple[Params, LanguageSize]:
    """Returns parameters without a branch `lora`, which compute the same, and their size."""
    lora = size.lora
    if lora is None or "lora" not in params:
        return params, replace(size, lora=None)

    def into(layer: Params, factors: Params) -> Params:
        if "kernel" in layer:
            return {
                **layer,
                "kernel": kernel_with_lora(layer["kernel"], factors["a"], factors["b"], lora.scale),
            }
        return {**layer, **{name: into(layer[name], inner) for name, inner in factors.items()}}

    plain = {name: branch for name, branch in params.items() if name != "lora"}
    return into(plain, params["lora"]), replace(size, lora=None)
