"""Files that no family reads are named by their names, by the tensors below a prefix, or by their shapes."""

import numpy as np
import pytest

from ivjax.convert.detection import recognise
from ivjax.convert.formats.tensors import Arrays
from ivjax.convert.hints import common_prefixes
from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError
from tests.convert.originals import SMALL_VIDEOMAE, originals, use_small_families
from tests.convert.test_matching import Unread

LLAMA = ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"]


@pytest.mark.parametrize(
    "names, words",
    [
        (
            ["embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"],
            "it is a vision transformer of images, such as ViT or DINOv2",
        ),
        (
            ["a.q.lora_A.default.weight", "a.q.lora_B.default.weight"],
            r"LoRA adapters, and they are added to a language model by ivjax.load\(MODEL, lora=FILE\)",
        ),
        (["layer1.0.conv1.weight", "layer4.0.conv1.weight"], "it is a ResNet, and no convolutional model"),
        (
            [*LLAMA, "model.layers.0.self_attn.q_norm.weight"],
            "such as Qwen3, and language models here are LLaMA, .*, Phi-3-mini",
        ),
        (
            [*LLAMA, "model.layers.0.pre_feedforward_layernorm.weight"],
            "it is Gemma, 2 or later, and language",
        ),
        ([*LLAMA, "model.layers.0.block_sparse_moe.experts.0.w1.weight"], "a language model with experts"),
    ],
)
def test_other_models_that_users_try_are_called_by_their_names(names, words):
    with pytest.raises(UserError, match=words):
        recognise(Unread(dict.fromkeys(names, (4, 4))), "w")


def test_tensors_of_a_whole_model_that_stand_beside_a_lora_are_no_adapters():
    family = FAMILIES["internvideo2_chat"]
    size = next(size for name, size in family.presets.items() if name.endswith("_tiny"))
    names = [lazy.name for lazy in family.original_tensors(Unread(family.shapes(size)), size)]
    file = recognise(Unread(dict.fromkeys([*names, "a_task_head.weight"], (4, 4))), "w")
    assert any("lora_A" in name for name in names) and file.family is family


def test_any_prefix_that_all_names_share_is_removed(monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    wrapped = {f"module.model.student.{name}": tensor for name, tensor in tensors.items()}
    file = recognise(Arrays(wrapped), "w")
    assert (file.family.name, file.prefix) == ("viclip", "module.model.student.")
    assert set(file.tensors) == set(tensors)
    assert common_prefixes(["a.b.c", "a.b.d"]) == ["a.b.", "a."] and common_prefixes(["ab", "ac"]) == []


def test_tensors_below_a_prefix_with_others_beside_are_pointed_out(monkeypatch):
    use_small_families(monkeypatch)
    tensors = originals()
    wrapped = {f"net.{name}": tensor for name, tensor in tensors.items()}
    wrapped |= {f"criterion.{number}": np.zeros(3) for number in range(4)}
    count = len(tensors)
    words = f"of its {count + 4} tensors the {count} below net. have the names of viclip; save those alone"
    with pytest.raises(UserError, match=words):
        recognise(Arrays(wrapped), "w")


def test_known_shapes_under_unknown_names_are_named(monkeypatch):
    use_small_families(monkeypatch)
    # As jax's libraries store kernels: the other way round, and queries, keys and values apart.
    renamed = {}
    for number, tensor in enumerate(originals(SMALL_VIDEOMAE, SMALL_VIDEOMAE.presets["small"]).values()):
        parts = np.split(tensor, 3) if tensor.shape == (36, 12) else [tensor]
        renamed |= {f"layer_{number}/{part}": array.T for part, array in enumerate(parts)}
    words = (
        r"shapes are those of videomae_encoder small \(100% of the numbers\), but the names are not: rename"
    )
    with pytest.raises(UserError, match=words):
        recognise(Arrays(renamed), "w")


def test_files_of_nothing_known_list_the_families():
    with pytest.raises(
        UserError, match=r"called a, b, ...; neither names nor shapes .*; the families are .* viclip"
    ):
        recognise(Unread({"a": (3,), "b": (5, 7)}), "w")
