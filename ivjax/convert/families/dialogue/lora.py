"""Factors of low rank at export: the originals' plain names have no place for them, so they are merged."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ivjax.convert.engine.family import Merging
from ivjax.convert.formats.tensors import Shape, Tensors
from ivjax.models.decoder.lora import kernel_with_lora

_BRANCH = "lora/"
_ATTENTION = tuple(f"blocks/attn/{name}" for name in ("q", "k", "v", "proj"))
_MLP = tuple(f"blocks/mlp/{name}" for name in ("gate", "up", "down"))
LORA_PATHS = tuple(f"{_BRANCH}{layer}/{factor}" for layer in (*_ATTENTION, *_MLP, "head") for factor in "ab")


class MergedLora(Tensors):
    """The parameters of a model, whose kernels contain the factors that lie beside them.

    `below` is the branch of the language model: what goes before the paths of its own parameters.
    """

    def __init__(self, whole: Tensors, scale: float, below: str = ""):
        self._whole, self._scale, self._below = whole, scale, below
        self.metadata = whole.metadata

    def _factors(self, name: str) -> str | None:
        """Returns the branch of the factors that belong to a kernel."""
        inner = name.removeprefix(self._below)
        branch = f"{self._below}{_BRANCH}{inner.removesuffix('/kernel')}"
        return branch if name.endswith("/kernel") and f"{branch}/a" in self._whole else None

    def _merged(self, name: str, read: Callable[[str], np.ndarray]) -> np.ndarray:
        """Returns a parameter, or a layer of it, with its factors; `read` reads either by path."""
        branch = self._factors(name)
        if branch is None:
            return read(name)
        found: np.ndarray = kernel_with_lora(
            read(name), read(f"{branch}/a"), read(f"{branch}/b"), self._scale
        )
        return found

    def layer(self, name: str, number: int) -> np.ndarray:
        return self._merged(name, lambda path: self._whole.layer(path, number))

    def __getitem__(self, name: str) -> np.ndarray:
        return self._merged(name, self._whole.__getitem__)

    def shape(self, name: str) -> Shape:
        return self._whole.shape(name)

    def dtype(self, name: str) -> np.dtype:
        return self._whole.dtype(name)

    def __contains__(self, name: object) -> bool:
        return name in self._whole and not str(name).startswith(f"{self._below}{_BRANCH}")

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._whole if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def merging_lora(below: str = "") -> Merging:
    """Returns how the LoRA of a language model whose paths begin with `below` goes into its kernels."""

    def merged(leaves: Tensors, size: Any) -> Tensors:
        lora = (size.language if below else size).lora
        return leaves if lora is None else MergedLora(leaves, lora.scale, below)

    return Merging(tuple(f"{below}{path}" for path in LORA_PATHS), merged)
