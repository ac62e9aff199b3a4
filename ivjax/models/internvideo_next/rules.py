"""Rules of the parameters of InternVideo-Next: the encoder, and what its two stages put on top."""

from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.modernbert.sizes import MODERNBERT
from ivjax.models.rules import BLOCKS, PATCH_EMBED, linear

ENCODER: Rules = stated_in(
    __name__,
    (
        *PATCH_EMBED,
        Rule("norm_pixels/scale", depth="first"),
        Rule("norm_patches/scale", depth="first"),
        *BLOCKS,
        Rule("cls_token", depth="first"),
        Rule("pos_embed", (None, None, "fsdp"), depth="first"),
        Rule("clip_projector/[qkv]/kernel", ("fsdp", "tensor"), decays=True),
        Rule("clip_projector/proj/kernel", ("tensor", "fsdp"), decays=True),
        Rule("clip_projector/*/bias"),
        Rule("clip_projector/norm_[qkv]"),
    ),
)


def head(path: str, stacked: bool = False) -> Rules:
    """Rules of a feature head; those of several layers are stacked on a leading axis."""
    lead = (None,) if stacked else ()
    return (
        Rule(f"{path}/*/kernel", (*lead, "fsdp", "tensor"), decays=True),
        Rule(f"{path}/*/bias"),
        Rule(f"{path}/norm"),
    )


PREDICTOR: Rules = stated_in(
    __name__,
    (
        *prefixed("encoder", ENCODER),
        # The originals' list of what does not decay names neither of these two.
        Rule("mask_token", decays=True),
        Rule("predictor_pos_embed", (None, None, "fsdp"), decays=True),
        *head("to_predictor"),
        *prefixed("predictor", MODERNBERT),
    ),
)

_STACKED = (None, "fsdp", "tensor")

DIFFUSION: Rules = stated_in(
    __name__,
    (
        *linear("input"),
        *linear("condition"),
        *linear("time/fc[12]"),
        Rule("blocks/*/kernel", _STACKED, decays=True, depth="stacked"),
        Rule("blocks/*/bias", depth="stacked"),
        Rule("blocks/norm/scale", depth="stacked"),
        *linear("modulation"),
        *linear("output"),
    ),
)

STUDENT: Rules = stated_in(
    __name__,
    (
        *PREDICTOR,
        Rule("clip_pos_embed", (None, None, "fsdp")),
        *head("clip_decoder", stacked=True),
        *head("final_clip_decoder"),
        *prefixed("diffusion", DIFFUSION),
    ),
)

LATENT: Rules = stated_in(__name__, (*PREDICTOR, *head("latent_decoder")))
