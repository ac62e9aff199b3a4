"""Models whose files users try, and that no family reads: what they are called, and what to do instead."""

from dataclasses import dataclass

from ivjax.convert.formats.tensors import Tensors
from ivjax.experiment.patterns import covers


@dataclass(frozen=True)
class Stranger:
    """A model that no family reads.

    Attributes:
        needs: patterns of names; a file of the model has a tensor for each of them.
        called: what the model is.
        remedy: what reads it, or what to give instead.
    """

    needs: tuple[str, ...]
    called: str
    remedy: str

    def knows(self, tensors: Tensors) -> bool:
        """Whether a file is of this model."""
        return all(any(covers([pattern], name) for name in tensors) for pattern in self.needs)


STRANGERS = (
    Stranger(
        ("*lora_A*", "*lora_B*"),
        "a set of LoRA adapters",
        "merge them into the weights that they were trained for, and give the whole",
    ),
    Stranger(
        ("*model.embed_tokens.weight", "*model.layers.0.self_attn.q_proj.weight"),
        "a language model with the names of LLaMA",
        "no model here reads it",
    ),
    Stranger(
        ("*layer1.0.conv1.weight", "*layer4.0.conv1.weight"),
        "a ResNet",
        "no convolutional model is here; choose a vision transformer",
    ),
    Stranger(
        ("*embeddings.patch_embeddings.projection.weight", "*embeddings.cls_token"),
        "a vision transformer of images, such as ViT or DINOv2, from transformers",
        "no family reads these names; choose CLIP or VideoMAE",
    ),
)
