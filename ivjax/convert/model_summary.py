"""A loaded model in a few lines: what it is, what it reads and gives, and how it is used."""

import dataclasses
import inspect
from typing import Any

from ivjax.data_pipelines.tokenizers.tokenizer import Tokenizer
from ivjax.experiment.listing import options_text, show
from ivjax.models.dialogue.model import DialogueModel
from ivjax.models.dual_tower import DualTower
from ivjax.models.sizes import VideoTowerSize
from ivjax.ops.cut import Params
from ivjax.ops.trees import paths_of

_MIB = 2**20


def summary(title: str, family: str, model: Any, params: Params, tokenizer: Tokenizer | None) -> str:
    """Returns the lines that a loaded model prints as; `title` is the first, its family the second."""
    lines = {"family": family, **model_facts(model, params, tokenizer)}
    lines["methods"] = f"{', '.join(_methods(model))} of .model"
    return "\n".join([title, *(f"  {name:8} {text}" for name, text in lines.items() if text)])


def model_facts(model: Any, params: Params, tokenizer: Tokenizer | None) -> dict[str, str]:
    """Returns what a model is, its sizes, what it reads and gives and how it is used, each in a few words."""
    size = getattr(model, "size", None)
    tower = video_size(size)
    lines = {"model": f"{type(model).__name__}, {_counted(params)}", **_sizes(size)}
    if tower is not None:
        frames, (height, width) = getattr(model, "frames", tower.frames), tower.image
        lines["reads"] = f"clips (n, {frames}, {height}, {width}, 3) uint8{_words(model, tokenizer)}"
        lines["gives"] = _gives(model, size, tower)
    elif tokenizer is not None:
        lines["reads"] = _words(model, tokenizer).removeprefix("; ")
    lines["use"] = ", ".join(_shortcuts(model, tower))
    return {name: text for name, text in lines.items() if text}


def _counted(params: Params) -> str:
    leaves = [leaf for _, leaf in paths_of(params)]
    count, size = sum(leaf.size for leaf in leaves), sum(leaf.nbytes for leaf in leaves)
    dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
    return f"{count:,} parameters in {len(leaves)} arrays, {size / _MIB:,.1f} MiB {dtypes}"


def video_size(size: Any) -> VideoTowerSize | None:
    """Returns the size of the video tower that clips go to; None for a model that sees nothing."""
    if not hasattr(size, "encoders"):
        return None
    if hasattr(size, "image"):
        tower: VideoTowerSize = size
        return tower
    return next(iter(size.encoders().values()), None)


def _sizes(size: Any) -> dict[str, str]:
    """A line for each part of a size that is one itself, and one for the rest."""
    if not dataclasses.is_dataclass(size):
        return {}
    values = {field.name: (getattr(size, field.name), field.default) for field in dataclasses.fields(size)}
    lines = {
        name: options_text(value) for name, (value, _) in values.items() if dataclasses.is_dataclass(value)
    }
    # Those that are their field's default go without saying: released sizes have twenty fields.
    own = [f"{name}={show(v)}" for name, (v, default) in values.items() if name not in lines and v != default]
    return ({"size": f"{type(size).__name__}({', '.join(own)})"} if own or not lines else {}) | lines


def _words(model: Any, tokenizer: Tokenizer | None) -> str:
    if tokenizer is None:
        return ""
    file = getattr(tokenizer, "path", "") or "without its vocabulary: give tokenizer=FILE"
    if hasattr(tokenizer, "pieces"):
        return f"; text ({type(tokenizer).__name__} {file})"
    return f"; captions as {tokenizer.length} ids ({type(tokenizer).__name__} {file})"


def _gives(model: Any, size: Any, tower: VideoTowerSize) -> str:
    tokens = f"tokens (n, {tower.class_tokens + tower.patches}, {tower.width})"
    if isinstance(model, DualTower):
        return f"embedding (n, {tower.out}), beside that of captions; {tokens} of each {tower.frames} frames"
    pooled = "" if tower.out is None else f"pooled (n, {tower.out}); "
    logits = f"logits (n, {size.classes}); " if hasattr(size, "classes") else ""
    return f"{logits}{pooled}mean (n, {tower.width}); {tokens}"


def _shortcuts(model: Any, tower: VideoTowerSize | None) -> list[str]:
    videos = [] if tower is None else ["ivjax.features(model, videos)"]
    if isinstance(model, DialogueModel):
        return [*videos, "ivjax.chat(model, videos)"]
    return [*videos, "model.text(words)"] if isinstance(model, DualTower) else videos


def _methods(model: Any) -> list[str]:
    """The methods that take parameters, by their signatures: a new kind of model needs no edit here."""
    found = []
    for name, method in inspect.getmembers(type(model), inspect.isfunction):
        arguments = [*inspect.signature(method).parameters.values()][1:]
        if not name.startswith("_") and arguments and arguments[0].name == "params" and len(arguments) > 1:
            needed = (each.name for each in arguments if each.default is inspect.Parameter.empty)
            found.append(f"{name}({', '.join(needed)})")
    return found
