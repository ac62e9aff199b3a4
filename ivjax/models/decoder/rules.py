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
        # The side of a LoRA that is as wide as the model is split as the kernel is; its rank stays whole.
        Rule("lora/blocks/attn/proj/a", (None, "tensor"), decays=True, depth="stacked"),
        Rule("lora/blocks/mlp/down/a", (None, "tensor"), decays=True, depth="stacked"),
        Rule("lora/blocks/*/a", (None, "fsdp"), decays=True, depth="stacked"),
        Rule("lora/blocks/attn/proj/b", (None, None, "fsdp"), decays=True, depth="stacked"),
        Rule("lora/blocks/mlp/down/b", (None, None, "fsdp"), decays=True, depth="stacked"),
        Rule("lora/blocks/*/b", (None, None, "tensor"), decays=True, depth="stacked"),
        Rule("lora/head/a", ("fsdp",), decays=True),
        Rule("lora/head/b", (None, "tensor"), decays=True),
    ),
)
