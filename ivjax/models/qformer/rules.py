"""Rules of the parameters of the Q-Former."""

from ivjax.experiment.rules import Rule, Rules, stated_in
from ivjax.models.rules import BLOCKS, linear, norm

QFORMER: Rules = stated_in(
    __name__,
    (
        Rule("word_embed", ("tensor", "fsdp"), decays=True, depth="first"),
        # As in the originals, where all but biases and norms decays.
        Rule("place_embed", (None, "fsdp"), decays=True, depth="first"),
        Rule("query_tokens", decays=True, depth="first"),
        Rule("extra_query_tokens", decays=True, depth="first"),
        *BLOCKS,
        Rule("blocks/mlp_query/fc1/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/mlp_query/fc2/kernel", (None, "tensor", "fsdp"), decays=True, depth="stacked"),
        # A stack of its own, because not every layer looks at the tower's tokens.
        Rule("cross/[qkv]/kernel", (None, "fsdp", "tensor"), decays=True),
        Rule("cross/proj/kernel", (None, "tensor", "fsdp"), decays=True),
        Rule("cross/*/bias"),
        Rule("cross/*/scale"),
        *norm("norm"),
        *norm("input_norm"),
        *linear("proj"),
    ),
)
