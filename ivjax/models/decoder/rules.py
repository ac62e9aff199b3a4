"""Rules of the parameters of language models."""

from ivjax.experiment.rules import Rule, Rules, stated_in

# Two products of a branch need one sum over the tensor axis between them, as in the vision transformers. The
# vocabulary is split over tensor: the logits of a step are the largest array of a language model.
DECODER: Rules = stated_in(
    __name__,
    (
        Rule("word_embed", ("tensor", "fsdp"), decays=True, depth="first"),
        Rule("blocks/attn/q/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/attn/k/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/attn/v/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/attn/proj/kernel", (None, "tensor", "fsdp"), decays=True, depth="stacked"),
        Rule("blocks/mlp/gate/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/mlp/up/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/mlp/down/kernel", (None, "tensor", "fsdp"), decays=True, depth="stacked"),
        Rule("blocks/*/bias", depth="stacked"),
        Rule("blocks/*/scale", depth="stacked"),
        Rule("norm/scale"),
        Rule("head/kernel", ("fsdp", "tensor"), decays=True),
    ),
)
