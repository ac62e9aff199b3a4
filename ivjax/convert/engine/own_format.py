"""The metadata of this project's own weight files: .safetensors with tree paths for names."""

import dataclasses
import json
from typing import Any

from ivjax.convert.engine.family import Family
from ivjax.convert.formats.tensors import Tensors
from ivjax.errors import UserError

FORMAT = "ivjax"


def is_own(tensors: Tensors) -> bool:
    """Whether tensors come from a file of this project's format."""
    return tensors.metadata.get("format") == FORMAT


def metadata(family: str, sizes: Any, preset: str | None) -> dict[str, str]:
    """Returns what a file of a family's model of `sizes` says of itself."""
    # As a text, since .safetensors has no other metadata.
    described = json.dumps(dataclasses.asdict(sizes))
    return {"format": FORMAT, "family": family, "preset": preset or "", "sizes": described}


def stored_sizes(tensors: Tensors, family: Family) -> Any:
    """Returns the sizes that a file of this project's format names, or None where it names none."""
    text = tensors.metadata.get("sizes")
    try:
        return family.sizes(json.loads(text)) if text else None
    except (UserError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"the sizes that the file names are damaged ({error}); convert it again") from None
