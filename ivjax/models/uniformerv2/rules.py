"""Rules of the parameters of UniFormerV2."""

from ivjax.experiment.rules import Rule, Rules, stated_in
from ivjax.models.rules import BLOCKS, PATCH_EMBED, linear, norm

_LOCAL: Rules = (
    # The whole branch: batch norm also keeps its running mean and variance there.
    Rule("blocks/local[12]/norm", depth="stacked"),
    Rule("blocks/local[12]/down/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
    Rule("blocks/local[12]/over_time/kernel", (None, None, "tensor"), decays=True, depth="stacked"),
    Rule("blocks/local[12]/up/kernel", (None, "tensor", "fsdp"), decays=True, depth="stacked"),
)

# Stacked as well, but above all blocks: layer-wise decay, which no recipe has, would not reach them.
_GLOBAL: Rules = (
    Rule("globals/attn/kernel", (None, None, "fsdp", "tensor"), decays=True),
    Rule("globals/proj/kernel", (None, "tensor", "fsdp"), decays=True),
    Rule("globals/fc1/kernel", (None, "fsdp", "tensor"), decays=True),
    Rule("globals/fc2/kernel", (None, "tensor", "fsdp"), decays=True),
    Rule("globals/places/kernel", decays=True),
    Rule("globals/*/bias"),
    Rule("globals/*/scale"),
)

UNIFORMERV2: Rules = stated_in(
    __name__,
    (
        *PATCH_EMBED,
        Rule("cls_token", depth="first"),
        Rule("spatial_embed", (None, "fsdp"), depth="first"),
        *norm("norm_pre"),
        *_LOCAL,
        *BLOCKS,
        *_GLOBAL,
        Rule("video_token"),
        Rule("balance"),
        *norm("norm_post"),
        *linear("proj"),
    ),
)
