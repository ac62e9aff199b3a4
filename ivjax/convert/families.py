"""The checkpoint families that can be converted. A new one is a table of rows and an entry here."""

from typing import Any

from ivjax.convert.encoders import ENCODER, VIDEOMAE
from ivjax.convert.family import Family
from ivjax.convert.internvideo2 import PRETRAIN
from ivjax.convert.viclip import CLIP, VICLIP
from ivjax.errors import UserError

FAMILIES: dict[str, Family] = {family.name: family for family in (VICLIP, CLIP, PRETRAIN, ENCODER, VIDEOMAE)}


def family_of_sizes(sizes: Any) -> Family | None:
    """The family whose models have sizes of this kind."""
    return next((family for family in FAMILIES.values() if isinstance(sizes, family.kind)), None)


def family_named(name: str) -> Family:
    """The family of a name."""
    if name not in FAMILIES:
        raise UserError(f"there is no family {name!r}; the families are {', '.join(FAMILIES)}")
    return FAMILIES[name]
