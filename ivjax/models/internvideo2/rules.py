"""Rules of the parameters of InternVideo2: the encoder, and the heads of the stage-1 student."""

from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.rules import BLOCKS, PATCH_EMBED, linear, norm

# Kernels alone decay: the originals' list of exceptions has all vectors,
# position tables and the class token.
ENCODER: Rules = stated_in(
    __name__,
    (
        *PATCH_EMBED,
        *BLOCKS,
        Rule("cls_token", depth="first"),
        # The originals name the joint table alone in their layer-wise decay: separable tables learn at the
        # full rate.
        Rule("pos_embed/table", (None, None, "fsdp"), depth="first"),
        Rule("pos_embed", (None, None, "fsdp")),
        Rule("img_pos_embed", (None, None, "fsdp"), depth="first"),
        Rule("clip_projector/[qkv]/kernel", ("fsdp", "tensor"), decays=True),
        Rule("clip_projector/proj/kernel", ("tensor", "fsdp"), decays=True),
        Rule("clip_projector/*/bias"),
        Rule("clip_projector/norm_[qkv]"),
    ),
)

# What an encoder that stands beside texts has more.
ALIGNED: Rules = stated_in(__name__, (*ENCODER, *norm("align/norm"), *linear("align/proj")))


def _decoder(path: str, stacked: bool) -> Rules:
    """Rules of a feature head; those of several layers are stacked on a leading axis."""
    lead = (None,) if stacked else ()
    return (
        Rule(f"{path}/*/kernel", (*lead, "fsdp", "tensor"), decays=True),
        Rule(f"{path}/*/bias"),
        Rule(f"{path}/norm"),
    )


STUDENT: Rules = stated_in(
    __name__,
    (
        *prefixed("encoder", ENCODER),
        Rule("clip_pos_embed", (None, None, "fsdp")),
        Rule("mae_pos_embed", (None, None, "fsdp")),
        *_decoder("clip_decoder", stacked=True),
        *_decoder("mae_decoder", stacked=True),
        *_decoder("final_clip_decoder", stacked=False),
    ),
)
