"""Rules of the parameters that all our transformers have in common."""

from ivjax.experiment.rules import Rule, Rules, stated_in

# Kernels are split over fsdp on one side and tensor on the other, so that the two products of a branch need
# one sum over the tensor axis between them. Stacked layers lead with None: a scan walks that axis.
BLOCKS: Rules = stated_in(
    __name__,
    (
        Rule("blocks/attn/qkv/kernel", (None, None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/attn/proj/kernel", (None, "tensor", "fsdp"), decays=True, depth="stacked"),
        Rule("blocks/mlp/fc1/kernel", (None, "fsdp", "tensor"), decays=True, depth="stacked"),
        Rule("blocks/mlp/fc1/bias", (None, "tensor"), depth="stacked"),
        Rule("blocks/mlp/fc2/kernel", (None, "tensor", "fsdp"), decays=True, depth="stacked"),
        Rule("blocks/*/bias", depth="stacked"),
        Rule("blocks/*/scale", depth="stacked"),
        Rule("blocks/*/gamma", depth="stacked"),
    ),
)

# The kernel's axes are time, row, column, channel, width.
PATCH_EMBED: Rules = stated_in(
    __name__,
    (
        Rule("patch_embed/kernel", (None, None, None, None, "fsdp"), decays=True, depth="first"),
        Rule("patch_embed/bias", depth="first"),
    ),
)


def linear(path: str) -> Rules:
    """Rules of a linear layer that is not stacked, with or without a bias."""
    return (Rule(f"{path}/kernel", ("fsdp", "tensor"), decays=True), Rule(f"{path}/bias"))


def norm(path: str) -> Rules:
    """Rules of a normalisation's scale and bias, which every device holds whole."""
    return (Rule(f"{path}/scale"), Rule(f"{path}/bias"))
