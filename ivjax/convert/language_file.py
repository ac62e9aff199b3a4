"""Reads a dialogue model's file together with the file of its language model.

FILE?language=OTHER takes the language model from OTHER, as it is published alone: VideoChat2's files hold
only what was trained.
"""

from ivjax.convert.detection import recognise
from ivjax.convert.formats.tensors import Joined, Renamed, Tensors
from ivjax.errors import UserError

_MARK = "?language="
_WORDS = "word_embed"


def split_language(path: str) -> tuple[str, str] | None:
    """Returns the file and that of its language model; None if `path` names no such."""
    file, mark, language = path.partition(_MARK)
    return (file, language) if mark else None


def with_language(whole: Tensors, language: Tensors, what: str, other: str) -> Tensors:
    """Returns the tensors of file `what` and those of its language model, file `other`, under the names of
    the first one's family."""
    outer, inner = recognise(whole, what).family, recognise(language, other)
    place = next((row.source for row in outer.rows if row.target == f"language/{_WORDS}"), None)
    if place is None:
        raise UserError(f"{what} is of {outer.name}, which has no language model; leave out {_MARK}{other}")
    own = next((row.source for row in inner.family.rows if row.target == _WORDS), None)
    if own is None or not place.endswith(own):
        raise UserError(
            f"{other} is of {inner.family.name}, which is not the language model of {outer.name}; "
            "give the one that it was trained with"
        )
    below = place.removesuffix(own)
    if there := next((name for name in whole if name == place), None):
        raise UserError(f"{what} has a language model itself ({there}); leave out {_MARK}{other}")
    named = Renamed(inner.tensors, {f"{below}{name}": name for name in inner.tensors})
    joined = Joined(dict.fromkeys(whole, whole) | dict.fromkeys(named, named), whole.metadata)
    joined.container = whole.container
    # Only the language model's folder says how its positions are scaled.
    joined.config = language.config
    return joined
