"""Files of a LoRA alone, in peft's spelling: read beside a language model, and written out of one."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ivjax.convert.engine.family import Family
from ivjax.convert.engine.match_report import MatchReport
from ivjax.convert.engine.matching import MatchRequest, match
from ivjax.convert.engine.packing import packed_again, part_names
from ivjax.convert.engine.rows import Row, Table, original_tensors, unflatten
from ivjax.convert.families.dialogue.language_models import lora_rows
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import LazyTensor, Renamed, Tensors, stripped
from ivjax.convert.formats.writing import Advance, no_progress, write_safetensors
from ivjax.errors import UserError
from ivjax.models.decoder.sizes import LORA_LAYERS, LanguageSize, Lora
from ivjax.ops.cut import Params

CONFIG = "adapter_config.json"
_WRAPPER = "base_model.model."  # what peft puts before all names of a model
_BRANCH = "lora/"


def read_lora(path: Path | str, family: Family, size: Any) -> tuple[Any, Params]:
    """Returns the size of a model with the LoRA of a file, and the factors in float32.

    path: the file, or a folder with one; peft's adapter_config.json lies beside it. family and size are those
    of the model that it is added to: a language model, or one with a language model inside, which then has
    the factors.
    """
    sized, factors = _flat_factors(path, family, size)
    return sized, unflatten(factors)


def factor_leaves(path: Path | str, family: Family, size: Any) -> tuple[Any, list[LazyTensor]]:
    """Returns the size of a model with the LoRA of a file, and the factors as parameters by path."""
    sized, factors = _flat_factors(path, family, size)
    below = "" if family.language is None else "language/"
    return sized, [
        LazyTensor(f"{below}{_BRANCH}{name}", leaf.shape, leaf.dtype, partial(list, [leaf]))
        for name, leaf in factors.items()
    ]


def _flat_factors(path: Path | str, family: Family, size: Any) -> tuple[Any, dict[str, np.ndarray]]:
    kind, language, below = _language_of(family, size)
    if kind is None:
        raise UserError(f"{path} is a LoRA for a language model, and {family.name} is none; leave out lora")
    if language.lora is not None:
        raise UserError(f"the model has a LoRA already; leave out {path}")
    tensors = open_tensors(Path(path).expanduser())
    said = _config(Path(path).expanduser())
    rows = [row for adapter in ("", "default.") for row in lora_rows("", "", kind, LORA_LAYERS, adapter)]
    bare = kind.unpacked(stripped(tensors, _prefix(tensors, kind, rows, path)), language)
    table = Table(rows)
    known = {name: taken[0].target.split("/") for name in bare if (taken := table.find(name))}
    there = {layer for *_, layer, _ in known.values()}
    rank = _rank({name: factor for name, (*_, factor) in known.items()}, bare, path)
    layers = tuple(layer for layer in LORA_LAYERS if layer in there)
    lora = Lora(rank, _alpha(said, rank), layers, float(said.get("lora_dropout") or 0.0))
    sized = replace(language, lora=lora)
    target = {name: shape for name, shape in kind.shapes(sized).items() if name.startswith(_BRANCH)}
    found = match(rows, bare, MatchRequest(target, dtype=np.dtype(np.float32)))
    if not found.report.fits:
        what = _misfit(found.report)
        raise UserError(f"{path} is a LoRA for another model than this {kind.name}: {what}")
    leaves = {leaf.path.removeprefix(_BRANCH): leaf.lazy(bare).read() for leaf in found.leaves}
    return replace(size, language=sized) if below else sized, leaves


def with_factors(params: Params, family: Family, factors: Params) -> Params:
    """Returns the parameters of a family's model with the factors of its language model's LoRA."""
    if family.language is None:
        return {**params, "lora": factors}
    return {**params, "language": {**params["language"], "lora": factors}}


def _misfit(report: MatchReport) -> str:
    """Returns the first thing about a LoRA that does not fit the model."""
    for shape in report.shapes:
        return f"{shape.name} is {shape.found}, and the model needs {shape.wanted}"
    for name in report.missing:
        return f"it has no {name}"
    # What is said of layers that the model has not got tells it better than a list.
    return report.problems()[0]


def write_lora(
    path: Path, leaves: Tensors, family: Family, size: Any, advance: Advance = no_progress
) -> list[Path]:
    """Writes the LoRA among parameters by path as peft does, adapter_config.json included.

    That of a dialogue model goes under the names of its language model alone, so that it fits both.
    """
    kind, language, below = _language_of(family, size)
    lora: Lora | None = None if kind is None else language.lora
    if kind is None or lora is None:
        raise UserError(f"this {family.name} has no LoRA to write; export it whole")
    if (path.parent / CONFIG).exists():
        raise UserError(f"{path.parent / CONFIG} exists already; choose another folder")
    # As they are where peft reads them back: without the name of the adapter.
    rows = lora_rows(_WRAPPER, "", kind, lora.layers, adapter="")
    mine = f"{below}{_BRANCH}"
    factors = Renamed(leaves, {name.removeprefix(below): name for name in leaves if name.startswith(mine)})
    packed = [pack.below(_WRAPPER, lambda size: size) for pack in kind.packed]
    tensors = packed_again(original_tensors(rows, factors), packed, language)
    files = write_safetensors(path, tensors, {"format": "pt"}, advance=advance)
    modules = sorted({tensor.name.split(".lora_")[0].rpartition(".")[2] for tensor in tensors})
    said: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"}
    said |= {"r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    said["target_modules"] = modules
    (path.parent / CONFIG).write_text(json.dumps(said, indent=1))
    return [path.parent / CONFIG, *files]


def _language_of(family: Family, size: Any) -> tuple[Family | None, Any, str]:
    """Returns the family and the size of a model's language model, and what goes before its paths; the family
    is None for a model without one."""
    if family.language is not None:
        return family.language.family, size.language, "language/"
    return (family, size, "") if isinstance(size, LanguageSize) else (None, size, "")


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
        f"{path} holds no LoRA for {family.name}: its tensors are called {first}, ...; give factors that "
        f"were trained on this model, such as peft's adapter_model.safetensors"
    )


def _rank(factors: Mapping[str, str], tensors: Tensors, path: Path | str) -> int:
    """Returns the rank of factors by name, each an `a` or a `b`: the rows of an a, the columns of a b."""
    shapes = {name: tensors.shape(name) for name in factors}
    if wrong := next((name for name, shape in shapes.items() if len(shape) != 2), None):
        raise UserError(f"{path} is no LoRA: {wrong} has the shape {shapes[wrong]}, and factors are matrices")
    ranks = sorted({shapes[name][0 if factor == "a" else 1] for name, factor in factors.items()})
    if len(ranks) > 1:
        raise UserError(
            f"{path} has factors of the ranks {', '.join(map(str, ranks))}, and here all have one; "
            "merge it into the weights with peft"
        )
    return ranks[0]


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
