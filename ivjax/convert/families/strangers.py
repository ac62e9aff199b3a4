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
        alone: whether a file of it has no other tensors.
    """

    needs: tuple[str, ...]
    called: str
    remedy: str
    alone: bool = False

    def knows(self, tensors: Tensors) -> bool:
        """Whether a file is of this model."""
        if self.alone and not all(covers(self.needs, name) for name in tensors):
            return False
        return all(any(covers([pattern], name) for name in tensors) for pattern in self.needs)


_LANGUAGE = "language models here are LLaMA, Vicuna, Mistral, Qwen2 and 2.5, InternLM2 and 2.5, Phi-3-mini"
_QUERY = "*model.layers.0.self_attn.q_proj.weight"


STRANGERS = (
    Stranger(
        ("*lora_A*", "*lora_B*"),
        "a set of LoRA adapters",
        "they are added to a language model by ivjax.load(MODEL, lora=FILE); of any other model, merge them "
        "into its weights and give the whole",
        alone=True,
    ),
    # These have the names of LLaMA and more, so that most of their tensors would seem to fit.
    Stranger(
        (_QUERY, "*model.layers.0.self_attn.q_norm.weight"),
        "a language model that normalises queries and keys, such as Qwen3",
        _LANGUAGE,
    ),
    Stranger((_QUERY, "*model.layers.0.pre_feedforward_layernorm.weight"), "Gemma, 2 or later", _LANGUAGE),
    Stranger((_QUERY, "*model.layers.0.*.experts.0.*"), "a language model with experts", _LANGUAGE),
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
