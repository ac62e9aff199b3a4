"""Rules of the parameters of VideoMAE: encoder and pixel decoder."""

from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models.rules import BLOCKS, PATCH_EMBED, linear, norm

# The pattern blocks/*/bias does not cover these: the leaves are called q_bias and v_bias.
_BLOCKS: Rules = (*BLOCKS, Rule("blocks/attn/[qv]_bias", depth="stacked"))

ENCODER: Rules = stated_in(
    __name__,
    (
        *PATCH_EMBED,
        *_BLOCKS,
        Rule("pos_embed", (None, None, "fsdp")),
        *norm("norm"),
    ),
)

AUTOENCODER: Rules = stated_in(
    __name__,
    (
        *prefixed("encoder", ENCODER),
        *linear("encoder_to_decoder"),
        Rule("mask_token"),
        *prefixed("decoder", (*_BLOCKS, *norm("norm"), *linear("head"))),
    ),
)
