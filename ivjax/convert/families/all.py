"""The checkpoint families that can be converted. A new one is a table of rows and an entry here."""

from typing import Any

from ivjax.convert.engine.family import Family
from ivjax.convert.families.encoders import ENCODER, STAGE2, VIDEOMAE
from ivjax.convert.families.internvideo2 import PRETRAIN
from ivjax.convert.families.internvideo2_classifier import CLASSIFIER
from ivjax.convert.families.viclip import CLIP, VICLIP
from ivjax.convert.families.videomae_pretrain import VIDEOMAE_PRETRAIN
from ivjax.errors import UserError

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (VICLIP, CLIP, PRETRAIN, CLASSIFIER, ENCODER, STAGE2, VIDEOMAE, VIDEOMAE_PRETRAIN)
}


def family_of_sizes(sizes: Any) -> Family | None:
    """The family whose models have sizes of this kind."""
    return next((family for family in FAMILIES.values() if isinstance(sizes, family.kind)), None)


def family_of_stage(stage: Any) -> tuple[Family, Any] | None:
    """The family whose models a stage trains, and their sizes."""
    found = ((family, family.of_stage(stage)) for family in FAMILIES.values())
    return next(((family, sizes) for family, sizes in found if sizes is not None), None)


def family_named(name: str) -> Family:
    """The family of a name."""
    if name not in FAMILIES:
        raise UserError(f"there is no family {name!r}; the families are {', '.join(FAMILIES)}")
    return FAMILIES[name]
