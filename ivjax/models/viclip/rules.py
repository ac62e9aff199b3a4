"""Rules of the parameters of ViCLIP's towers."""

from ivjax.experiment.rules import Rule, Rules, stated_in
from ivjax.models.rules import BLOCKS, PATCH_EMBED, linear, norm

VISION: Rules = stated_in(
    __name__,
    (
        *PATCH_EMBED,
        *BLOCKS,
        Rule("cls_token", depth="first"),
        Rule("spatial_embed", (None, "fsdp")),
        Rule("temporal_embed", (None, None, "fsdp")),
        *norm("norm_pre"),
        *norm("norm_post"),
        *linear("proj"),
    ),
)

TEXT: Rules = stated_in(
    __name__,
    (
        *BLOCKS,
        # The originals decay whatever is no bias, norm or place: words as well.
        Rule("word_embed", (None, "fsdp"), decays=True),
        Rule("place_embed", (None, "fsdp")),
        *norm("norm"),
        *linear("proj"),
    ),
)
