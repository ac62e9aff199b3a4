"""What is to be generated, as a user writes it: `frames=512,new=256`."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from ivjax.errors import UserError, nearest
from ivjax.experiment.computing import Dtype
from ivjax.experiment.files import load_experiment
from ivjax.models.decoder.cache import CacheType
from ivjax.models.decoder.visual_dropout import DropKind, VisualDropout
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.models.dialogue.sizes import DialogueSize


@dataclass(frozen=True)
class GenerationRequest:
    """What is to be generated.

    Attributes:
        frames: frames of the video of each row.
        new: tokens that are generated.
        batch: rows, each with a video.
        question: tokens of a prompt beside the visual ones.
        chunk: prompt tokens that go through the layers at a time.
        cache: what keys and values are stored as.
        weights: what parameters are stored as; layers compute in bfloat16.
        clips: clips that are encoded at a time (None: 8 for each device that takes other clips).
        layers: how many layers have run before each visual dropout; empty: none.
        ratios: the share of visual tokens before the first of them and after each.
        kind: how tokens are chosen then.
    """

    frames: int
    new: int = 256
    batch: int = 1
    question: int = 128
    chunk: int = 1024
    cache: CacheType = "compute"
    weights: Dtype = "bfloat16"
    clips: int | None = None
    layers: tuple[int, ...] = ()
    ratios: tuple[float, ...] = ()
    kind: DropKind = "attention"

    @property
    def dropout(self) -> VisualDropout | None:
        """Which visual tokens are dropped inside the model."""
        if not self.layers and not self.ratios:
            return None
        return VisualDropout(self.layers, self.ratios, self.kind)


def _count(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--generate {key}={text}: it must be a whole number of 1 or more")
    return int(text)


def _one_of(allowed: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(key: str, text: str) -> str:
        if text not in allowed:
            raise UserError(f"--generate {key}={text}: it must be {' or '.join(allowed)}")
        return text

    return read


def _several(number: Callable[[str], Any]) -> Callable[[str, str], tuple[Any, ...]]:
    def read(key: str, text: str) -> tuple[Any, ...]:
        try:
            return tuple(number(part) for part in text.split(":"))
        except ValueError:
            example = "4:18" if number is int else "1:0.75:0.25"
            raise UserError(
                f"--generate {key}={text}: it must be numbers with colons between, as in {key}={example}"
            ) from None

    return read


_READERS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(("frames", "new", "batch", "question", "chunk", "clips"), _count),
    "cache": _one_of(get_args(CacheType)),
    "weights": _one_of(get_args(Dtype)),
    "layers": _several(int),
    "ratios": _several(float),
    "kind": _one_of(get_args(DropKind)),
}


def parse_request(text: str) -> GenerationRequest:
    """Reads `frames=512,new=256`: options of GenerationRequest, with commas between."""
    values: dict[str, Any] = {}
    for word in text.split(","):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            raise UserError(f"--generate {word!r} is no option; write options as in frames=512,new=256")
        if key not in _READERS:
            raise UserError(
                f"--generate has no option {key!r}; it has {', '.join(_READERS)}{nearest(key, _READERS)}"
            )
        if key in values:
            raise UserError(f"--generate names {key} twice; give it once")
        values[key] = _READERS[key](key, value)
    if "frames" not in values:
        raise UserError("--generate needs the frames of a video, as in frames=512,new=256")
    dropping = [key for key in values if key in ("layers", "ratios", "kind")]
    if dropping and not {"layers", "ratios"} <= set(dropping):
        raise UserError(
            f"--generate {' and '.join(dropping)} alone drops nothing; give layers and ratios, as in "
            "layers=4:18,ratios=1:0.75:0.25"
        )
    return GenerationRequest(**values)


def dialogue_named(name: str, overrides: tuple[str, ...] = ()) -> DialogueSize:
    """Returns the dialogue model of a preset, or of a config that trains one."""
    if name in DIALOGUES:
        apart = [word for word in overrides if word.partition("=")[0] in _READERS]
        if apart:
            raise UserError(
                f"{' '.join(apart)} belongs to --generate; write its options with commas between, as in "
                "frames=512,new=256"
            )
        if overrides:
            raise UserError(f"{name} is a preset, which takes no overrides; leave out {' '.join(overrides)}")
        return DIALOGUES[name]
    try:
        stage = load_experiment(name, overrides).stage
    except UserError as error:
        if "no config" not in str(error):
            raise
        raise UserError(
            f"{name!r} is no dialogue model; give a config that trains one, or a preset: "
            f"{', '.join(preset for preset in DIALOGUES if not preset.endswith('_tiny'))}"
            f"{nearest(name, DIALOGUES)}"
        ) from None
    values = [getattr(stage, field.name) for field in dataclasses.fields(stage)]  # type: ignore[arg-type]
    sizes = [value for value in (*values, getattr(stage, "size", None)) if isinstance(value, DialogueSize)]
    if not sizes:
        raise UserError(
            f"config {name} trains no dialogue model, so it generates nothing; see docs/stage3.md"
        )
    return sizes[0]
