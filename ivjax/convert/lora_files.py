"""Files of a LoRA alone, in peft's spelling: read beside a language model, and written out of one."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.convert.engine.family import Family
from ivjax.convert.engine.matching import MatchRequest, match
from ivjax.convert.engine.packing import packed_again, part_names
from ivjax.convert.engine.rows import Row, Table, original_tensors, unflatten
from ivjax.convert.families.language_models import lora_rows
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import Renamed, Tensors, stripped
from ivjax.convert.formats.writing import Advance, no_progress, write_safetensors
from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError
from ivjax.models.decoder.sizes import LORA_LAYERS, LanguageSize, Lora
from ivjax.ops.cut import Params

CONFIG = "adapter_config.json"
_WRAPPER = "base_model.model."  # what peft puts before all names of a model
_BRANCH = "lora/"


def read_lora(path: Path | str, family: Family, size: Any) -> tuple[LanguageSize, Params]:
    """Returns the size with the LoRA of a file, and its branch of parameters, in float32.

    path: the file, or a folder with one; peft's adapter_config.json lies beside it. family and size are those
    of the model that it is added to.
    """
    if not isinstance(size, LanguageSize):
        raise UserError(f"{path} is a LoRA for a language model, and {family.name} is none; leave out lora")
    tensors = open_tensors(Path(path).expanduser())
    said = _config(Path(path).expanduser())
    rows = [row for adapter in ("", "default.") for row in lora_rows("", "", family, LORA_LAYERS, adapter)]
    bare = family.unpacked(stripped(tensors, _prefix(tensors, family, rows, path)), size)
    table = Table(rows)
    known = {name: taken[0].target.split("/") for name in bare if (taken := table.find(name))}
    there = {layer for *_, layer, _ in known.values()}
    # The rows of an A are the rank.
    rank = next(bare.shape(name)[0] for name, (*_, factor) in known.items() if factor == "a")
    lora = Lora(rank, _alpha(said, rank), tuple(layer for layer in LORA_LAYERS if layer in there))
    sized = replace(size, lora=lora)
    target = {name: shape for name, shape in family.shapes(sized).items() if name.startswith(_BRANCH)}
    found = match(rows, bare, MatchRequest(target, dtype=np.dtype(np.float32)))
    if problems := found.report.problems():
        raise UserError(f"{path} is a LoRA for another model than this {family.name}: {problems[0]}")
    leaves = {leaf.path.removeprefix(_BRANCH): leaf.lazy(bare).read() for leaf in found.leaves}
    return sized, unflatten(leaves)


def read_inner_lora(path: Path | str, size: LanguageSize) -> tuple[LanguageSize, Params]:
    """Returns the same for a language model inside another one, of whichever family the file's names are."""
    if size.lora is not None:
        raise UserError(f"the model has a LoRA already; leave out {path}, or export it merged first")
    errors = []
    for family in FAMILIES.values():
        if family.kind is LanguageSize:
            try:
                return read_lora(path, family, size)
            except UserError as error:
                errors.append(error)
    # The family whose names these are tells what does not fit.
    raise next((error for error in errors if "for another model" in str(error)), errors[0])


def write_lora(
    path: Path, leaves: Tensors, family: Family, size: Any, advance: Advance = no_progress
) -> list[Path]:
    """Writes the LoRA among parameters by path as peft does, adapter_config.json included."""
    lora: Lora | None = getattr(size, "lora", None)
    if lora is None:
        raise UserError(f"this {family.name} has no LoRA to write; export it whole")
    if (path.parent / CONFIG).exists():
        raise UserError(f"{path.parent / CONFIG} exists already; choose another folder")
    # As they are where peft reads them back: without the name of the adapter.
    rows = lora_rows(_WRAPPER, "", family, lora.layers, adapter="")
    factors = Renamed(leaves, {name: name for name in leaves if name.startswith(_BRANCH)})
    packed = [pack.below(_WRAPPER, lambda size: size) for pack in family.packed]
    tensors = packed_again(original_tensors(rows, factors), packed, size)
    files = write_safetensors(path, tensors, {"format": "pt"}, advance=advance)
    modules = sorted({tensor.name.split(".lora_")[0].rpartition(".")[2] for tensor in tensors})
    said: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"}
    said |= {"r": lora.rank, "lora_alpha": lora.alpha, "target_modules": modules}
    (path.parent / CONFIG).write_text(json.dumps(said, indent=1))
    return [path.parent / CONFIG, *files]


def _prefix(tensors: Tensors, family: Family, rows: Sequence[Row], path: Path | str) -> str:
    """Returns what stands before the names of the family's layers, such as peft's wrapper."""
    table = Table(rows)
    for name in tensors:
        pieces = name.split(".")
        for count in range(len(pieces)):
            inner = ".".join(pieces[count:])
            if table.find(part_names(family.packed, inner)[0]):
                return name.removesuffix(inner)
    first = ", ".join(list(tensors)[:2])
    raise UserError(
        f"{path} holds no LoRA for a {family.name}: its tensors are called {first}, ...; give factors that "
        f"were trained on this model, such as peft's adapter_model.safetensors"
    )


def _config(path: Path) -> dict[str, Any]:
    """Returns what peft says of the factors; nothing where its file is missing."""
    file = (path if path.is_dir() else path.parent) / CONFIG
    if not file.is_file():
        return {}
    try:
        said: dict[str, Any] = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is no JSON ({error}); fetch it again") from None
    for option in ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if said.get(option):
            raise UserError(f"{file} says {option}={said[option]}, which is not computed here")
    return said


def _alpha(said: dict[str, Any], rank: int) -> float:
    # Twice the rank is what all released dialogue models have, and their files do not say it.
    alpha = float(said.get("lora_alpha", 2 * rank))
    return alpha * math.sqrt(rank) if said.get("use_rslora") else alpha
