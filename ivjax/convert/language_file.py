"""Reads a dialogue model's file together with the file of its language model.

FILE?language=OTHER takes the language model from OTHER, as it is published alone: VideoChat2's files hold
only what was trained.
"""

from ivjax.convert.detection import recognise
from ivjax.convert.formats.tensors import Joined, Renamed, Tensors
from ivjax.errors import UserError

_MARK = "?language="


def split_language(path: str) -> tuple[str, str] | None:
    """Returns the file and that of its language model; None if `path` names no such."""
    file, mark, language = path.partition(_MARK)
    return (file, language) if mark else None


def with_language(whole: Tensors, language: Tensors, what: str, other: str) -> Tensors:
    """Returns the tensors of file `what` and those of its language model, file `other`, under the names of
    the first one's family."""
    file, inner = recognise(whole, what), recognise(language, other)
    outer, wanted = file.family, file.family.language
    if wanted is None:
        raise UserError(f"{what} is of {outer.name}, which has no language model; leave out {_MARK}{other}")
    if file.in_own_format:
        raise UserError(
            f"{what} is in this project's format and so has a language model itself; leave out {_MARK}{other}"
        )
    if inner.family.name != wanted.family.name or inner.in_own_format:
        kind = "in this project's format" if inner.in_own_format else f"of {inner.family.name}"
        raise UserError(
            f"{other} is {kind}, and the language model of {outer.name} is a file of {wanted.family.name}; "
            "give the one that it was trained with, as it is published"
        )
    named = Renamed(inner.tensors, {f"{wanted.prefix}{name}": name for name in inner.tensors})
    if there := next((name for name in named if name in whole), None):
        raise UserError(f"{what} has a language model itself ({there}); leave out {_MARK}{other}")
    joined = Joined(dict.fromkeys(whole, whole) | dict.fromkeys(named, named), whole.metadata)
    joined.container = whole.container
    # Only the language model's folder says how its positions are scaled.
    joined.config = language.config
    return joined
