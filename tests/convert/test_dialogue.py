"""Files of dialogue models: names and shapes at full size, bits there and back, files in two parts."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

import ivjax
from ivjax.convert.comparison import ImportChoices, compare
from ivjax.convert.conversion import export_file, import_file
from ivjax.convert.detection import recognise
from ivjax.convert.engine.matching import MatchRequest
from ivjax.convert.families.dialogue.chat_models import FAMILIES as DIALOGUE_FAMILIES
from ivjax.convert.families.dialogue.chat_models import INTERNVIDEO2_5_CHAT
from ivjax.convert.families.dialogue.language_models import INTERNLM2, LLAMA, PHI3
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import Arrays, LazyTensor
from ivjax.convert.formats.writing import write_safetensors
from ivjax.convert.lora_files import write_lora
from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError
from ivjax.models.decoder.sizes import Lora, Rotary
from ivjax.models.dialogue.presets import DIALOGUES
from tests.convert.originals import originals, pseudo_random, write_originals
from tests.convert.tables import save_weights
from tests.convert.test_language_models import shapes_in
from tests.convert.test_matching import Unread, listed

BY_NAME = {family.name: family for family in DIALOGUE_FAMILIES}


def written(family, sizes, without=()):
    """Shapes of what an export of a model of these sizes would write."""
    leaves = {path: shape for path, shape in family.shapes(sizes).items() if path not in without}
    return {lazy.name: lazy.shape for lazy in family.original_tensors(Unread(leaves), sizes)}


def tiny_of(family):
    """The first tiny preset of a family."""
    return next(size for name, size in family.presets.items() if name.endswith("_tiny"))


def drawn(family, size, dtype=np.float32):
    """Random tensors under the original names. Layers that one kernel holds share a factor of LoRA."""
    rng = np.random.default_rng(0)
    leaves = {path: rng.normal(size=shape).astype(dtype) for path, shape in family.shapes(size).items()}
    for path in leaves:
        shared = path.replace("attn/k/a", "attn/q/a").replace("attn/v/a", "attn/q/a")
        leaves[path] = leaves[shared.replace("mlp/up/a", "mlp/gate/a")]
    return {lazy.name: lazy.read() for lazy in family.original_tensors(Arrays(leaves), size)}


def whole(manifest):
    """Names and shapes of a released model, and those of them that the model has no use for."""
    listing, shapes = listed(manifest)
    unused = {name for name in shapes if name.startswith("project_down") or name.endswith("position_ids")}
    if manifest == "videochat_flash_qwen2_7b_vision_projector":
        # The listing leaves out the language model, which stands beside it under its own names.
        shapes |= shapes_in("qwen2_7b")[0]
    return listing, shapes, unused


@pytest.mark.parametrize(
    ("manifest", "family", "preset"),
    [
        ("internvideo2_5_chat_8b", "internvideo2_5_chat", "internvideo2_5_chat_8b"),
        pytest.param(
            "internvideo2_chat_8b", "internvideo2_chat", "internvideo2_chat_8b", marks=pytest.mark.slow
        ),
        pytest.param(
            "videochat_flash_qwen2_7b_vision_projector",
            "videochat_flash",
            "videochat_flash_qwen2_7b_224",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_released_models_fit_both_ways(manifest, family, preset):
    listing, shapes, unused = whole(manifest)
    compared = compare(Unread(shapes), manifest)
    report = compared.report
    assert (report.family, report.preset) == (family, preset)
    assert report.fits and not report.resized and report.unused.keys() == unused
    # Positions are counted and come back; what the model has no use for does not.
    wanted = {name: shape for name, shape in shapes.items() if not name.startswith("project_down")}
    assert written(BY_NAME[family], compared.sizes) == wanted
    if not unused and "qwen2" not in manifest:
        total = sum(np.prod(shape, dtype=int) for shape in BY_NAME[family].shapes(compared.sizes).values())
        assert total == listing["total_params"]


def test_internvideo2_5_has_8_075_365_376_parameters():
    model = DIALOGUES["internvideo2_5_chat_8b"].build(ivjax.experiment.Compute("bfloat16"))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 8_075_365_376


def test_what_videochat2_trained_fits_all_but_the_language_model():
    listing, shapes, unused = whole("videochat2_mistral_7b_stage3")
    family, size = BY_NAME["videochat2_mistral"], DIALOGUES["videochat2_mistral_7b"]
    file = recognise(Unread(shapes), "w").unpacked(size)
    assert file.family is family
    report = file.match(MatchRequest(family.shapes(size), partial=True)).report
    assert report.fits and report.unused.keys() == unused and report.matched == len(shapes) - len(unused)
    base = {path for path in family.shapes(size) if path.startswith("language/") and "/lora/" not in path}
    leaves = {path: shape for path, shape in family.shapes(size).items() if path not in base}
    assert {lazy.name: lazy.shape for lazy in family.original_tensors(Unread(leaves), size)} == shapes
    total = sum(np.prod(shape, dtype=int) for shape in leaves.values())
    assert total == listing["total_params"]


@pytest.mark.slow
def test_a_file_of_videochat2s_second_stage_has_no_parts_that_read_words():
    _, shapes, _ = whole("videochat2_mistral_7b_stage3")
    text = ("embeddings.word", "embeddings.position", ".intermediate.", ".output.dense", ".output.LayerNorm")
    layers = ("attention.output", "crossattention.output")
    second = {
        name: shape
        for name, shape in shapes.items()
        if not any(t in name for t in text) or any(layer in name for layer in layers)
    }
    assert len(shapes) - len(second) == 2 + 12 * 6 + 1
    size = DIALOGUES["videochat2_mistral_7b"]
    size = replace(size, bridge=replace(size.bridge, reads_text=False))
    report = (
        recognise(Unread(second), "w")
        .match(MatchRequest(BY_NAME["videochat2_mistral"].shapes(size), partial=True))
        .report
    )
    assert report.fits and not report.unused and report.matched == len(second)
    changed = ImportChoices("videochat2_mistral", "videochat2_mistral_7b", ("bridge.reads_text=false",))
    assert compare(Unread(second), "w", changed).sizes == size


def test_task_heads_in_a_file_of_internvideo2_5_are_listed_as_unused():
    listing, shapes, _ = whole("internvideo2_5_chat_8b")
    more = {f"{name}.0.weight": (1,) for name in listing["extra_prefixes_in_file"]}
    more |= {name: (1, 1, 4096) for name in ("box_token", "temporal_token", "track_token")}
    report = compare(Unread(shapes | more), "w").report
    assert report.fits and report.unused.keys() == more.keys()


def test_a_larger_vocabulary_is_taken_from_the_file_and_reported():
    _, shapes, _ = whole("internvideo2_5_chat_8b")
    larger = {name: (92_665, 4096) if s[0] == 92_553 else s for name, s in shapes.items()}
    compared = compare(Unread(larger), "w")
    assert compared.sizes.language.vocabulary == 92_665 and compared.report.fits
    told = "with language.vocabulary=92665 instead of 92553, as in the file"
    assert compared.report.preset == f"internvideo2_5_chat_8b {told}"


TOWERS = {
    "internvit": "internvideo2_5_chat_8b_tiny",
    "umt_encoder": "videochat2_mistral_7b_tiny",
    "internvideo2_unpooled": "internvideo2_chat_8b_tiny",
}


# Of each bridge one, one with packed kernels that have factors, and a tower.
QUICK = ("internvideo2_5_chat", "videochat_flash", "videochat2_phi3", "umt_encoder")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in (*BY_NAME, *TOWERS)],
)
def test_an_export_has_the_names_and_the_bits_of_the_file_that_was_imported(name, tmp_path):
    family = FAMILIES[name]
    size = DIALOGUES[TOWERS[name]].vision if name in TOWERS else tiny_of(family)
    theirs = drawn(family, size, ml_dtypes.bfloat16)
    write_originals(tmp_path / "theirs.safetensors", theirs)
    choices = ImportChoices(name, sizes=size)
    import_file(tmp_path / "theirs.safetensors", tmp_path / "own.safetensors", choices)
    export_file(tmp_path / "own.safetensors", tmp_path / "back.safetensors")
    back = open_tensors(tmp_path / "back.safetensors")
    assert set(back) == set(theirs)
    assert all(back[name].tobytes() == tensor.tobytes() for name, tensor in theirs.items())


@pytest.mark.slow
def test_layers_of_full_width_come_back_bit_for_bit(tmp_path):
    """InternVideo2.5 with one layer in each stack, and fewer words."""
    size = DIALOGUES["internvideo2_5_chat_8b"]
    language = replace(size.language, depth=1, vocabulary=3000)
    size = replace(size, vision=replace(size.vision, depth=1), language=language)
    shapes = written(INTERNVIDEO2_5_CHAT, size)
    draws = {name: partial(pseudo_random, name, shape) for name, shape in shapes.items()}
    kind = np.dtype(ml_dtypes.bfloat16)
    theirs = [LazyTensor(name, shapes[name], kind, lambda d=draw: [d()]) for name, draw in draws.items()]
    write_safetensors(tmp_path / "theirs.safetensors", theirs, {}, shard_bytes=2**27)
    index = tmp_path / "theirs.safetensors.index.json"
    # Any bits are NaN and infinities, too.
    import_file(index, tmp_path / "own.safetensors", ImportChoices(sizes=size, allow_non_finite=True))
    index = next(tmp_path.glob("own*.json"), tmp_path / "own.safetensors")
    export_file(Path(f"{index}?nonfinite=allow"), tmp_path / "back.safetensors")
    back = open_tensors(next(tmp_path.glob("back*.json"), tmp_path / "back.safetensors"))
    assert set(back) == set(shapes)
    for name, draw in draws.items():
        assert np.array_equal(back[name].view(np.uint16), draw().view(np.uint16)), name


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("videochat2_phi3", PHI3),
        pytest.param("videochat2_mistral", LLAMA, marks=pytest.mark.slow),
        pytest.param("videochat2_vicuna", LLAMA, marks=pytest.mark.slow),
    ],
)
def test_the_language_model_may_lie_in_a_file_of_its_own(name, inner, tmp_path):
    family = BY_NAME[name]
    size = tiny_of(family)
    theirs = drawn(family, size)
    base = {n: x for n, x in theirs.items() if "base_model" in n and "lora_" not in n}
    trained = {n: x for n, x in theirs.items() if n not in base}
    alone = {n.partition("base_model.model.")[2].replace(".base_layer.", "."): x for n, x in base.items()}
    write_originals(tmp_path / "trained.pth", trained)
    (tmp_path / "language").mkdir()
    write_originals(tmp_path / "language/model.safetensors", alone)
    assert recognise(open_tensors(tmp_path / "language"), "w").family is inner
    path = f"{tmp_path / 'trained.pth'}?language={tmp_path / 'language'}"
    loaded = ivjax.load(path, family=name, sizes=size)
    assert loaded.model.size == size and "DialogueModel" in repr(loaded)
    write_originals(tmp_path / "whole.safetensors", theirs)
    wanted = ivjax.load(tmp_path / "whole.safetensors", family=name, sizes=size).params
    jax.tree.map(np.testing.assert_array_equal, loaded.params, wanted)


def test_a_language_model_of_another_kind_is_refused(tmp_path):
    family = BY_NAME["videochat2_mistral"]
    size = tiny_of(family)
    theirs = drawn(family, size)
    trained = {n: x for n, x in theirs.items() if "base_model" not in n or "lora_" in n}
    write_originals(tmp_path / "trained.safetensors", trained)
    write_originals(tmp_path / "whole.safetensors", theirs)
    write_originals(tmp_path / "other.safetensors", originals(INTERNLM2, replace(size.language, lora=None)))
    words = "other.safetensors is of internlm2, and the language model of videochat2_mistral is a file of"
    with pytest.raises(UserError, match=words):
        ivjax.load(f"{tmp_path}/trained.safetensors?language={tmp_path}/other.safetensors")
    write_originals(tmp_path / "llama.safetensors", originals(LLAMA, replace(size.language, lora=None)))
    with pytest.raises(UserError, match="whole.safetensors has a language model itself"):
        ivjax.load(f"{tmp_path}/whole.safetensors?language={tmp_path}/llama.safetensors")
    with pytest.raises(UserError, match="is of llama, which has no language model"):
        ivjax.load(f"{tmp_path}/llama.safetensors?language={tmp_path}/llama.safetensors")


CONFIG = {
    "model_type": "internvl_chat",
    "ps_version": "v2",
    "downsample_ratio": 0.5,
    "select_layer": -1,
    "vision_config": {
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "image_size": 448,
        "qkv_bias": True,
        "qk_normalization": False,
        "norm_type": "layer_norm",
    },
    "llm_config": {
        "model_type": "internlm2",
        "vocab_size": 92553,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-05,
        "bias": False,
        "rope_theta": 1000000,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
    },
}


def test_sizes_are_read_from_a_config():
    size = DIALOGUES["internvideo2_5_chat_8b"]
    # The config also says how long texts may be, which only other scalings ask for.
    rotary = replace(size.language.rotary, limit=32768)
    wanted = replace(size, language=replace(size.language, rotary=rotary))
    assert INTERNVIDEO2_5_CHAT.configured(CONFIG) == wanted
    with pytest.raises(UserError, match="select_layer=-4"):
        INTERNVIDEO2_5_CHAT.configured(CONFIG | {"select_layer": -4})


def test_norms_and_activations_of_internvit_are_read_from_a_config():
    def tower(**options):
        config = CONFIG | {"vision_config": CONFIG["vision_config"] | options}
        return INTERNVIDEO2_5_CHAT.configured(config).vision

    found = tower(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-5, norm_type="rms_norm")
    assert found == replace(tower(), gelu="tanh", epsilon=1e-5, norm="rms")
    for name in ("hidden_act", "norm_type"):
        with pytest.raises(UserError, match=f"{name}=relu of the vision tower; here there are "):
            tower(**{name: "relu"})


def test_a_tower_inside_a_file_stands_alone(tmp_path):
    size = DIALOGUES["internvideo2_5_chat_8b_tiny"]
    write_originals(tmp_path / "w.safetensors", originals(INTERNVIDEO2_5_CHAT, size))
    tower, params, _ = ivjax.load(f"{tmp_path}/w.safetensors#vision", sizes=size)
    assert tower.size == size.vision and params["cls_token"].shape == (1, 1, 32)
    # The same tower in a file of its own, under the names that it has in the whole.
    whole = originals(INTERNVIDEO2_5_CHAT, size)
    alone = {name: x for name, x in whole.items() if name.startswith("vision_model.")}
    write_originals(tmp_path / "tower.safetensors", alone)
    found = ivjax.load(tmp_path / "tower.safetensors", sizes=size.vision)
    assert found.made == "internvit of given sizes"
    jax.tree.map(np.testing.assert_array_equal, found.params, params)


def test_how_positions_are_scaled_is_read_beside_the_language_model(tmp_path):
    family = BY_NAME["videochat2_phi3"]
    size = tiny_of(family)
    theirs = drawn(family, size)
    trained = {n: x for n, x in theirs.items() if "base_model" not in n or "lora_" in n}
    write_originals(tmp_path / "trained.pth", trained)
    (tmp_path / "language").mkdir()
    write_originals(
        tmp_path / "language/model.safetensors", originals(PHI3, replace(size.language, lora=None))
    )
    config = {
        "model_type": "phi3",
        "hidden_size": size.language.width,
        "num_attention_heads": size.language.heads,
        "num_hidden_layers": size.language.depth,
        "intermediate_size": size.language.mlp_width,
        "vocab_size": size.language.vocabulary,
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8},
    }
    (tmp_path / "language/config.json").write_text(json.dumps(config))
    loaded = ivjax.load(
        f"{tmp_path}/trained.pth?language={tmp_path}/language",
        "videochat2_phi3_mini_tiny",
        family="videochat2_phi3",
    )
    language = loaded.model.size.language
    assert language.rotary == Rotary(10000.0, "long", 1.0, 4096, 131072, (1.0,) * 8, (2.0,) * 8)
    assert language.window is None and language.lora == size.language.lora


def test_a_lora_of_the_language_model_is_loaded_beside_it(tmp_path):
    size = DIALOGUES["internvideo2_5_chat_8b_tiny"]
    write_originals(tmp_path / "w.safetensors", originals(INTERNVIDEO2_5_CHAT, size))
    tuned = replace(size.language, lora=Lora(4, 8.0, ("q", "k", "v", "down")))
    rng = np.random.default_rng(0)
    leaves = {path: rng.normal(size=shape) for path, shape in INTERNLM2.shapes(tuned).items()}
    for path in leaves:
        leaves[path] = leaves[re.sub("attn/[kv]/a", "attn/q/a", path)]
    factors = Arrays({path: leaf.astype(np.float32) for path, leaf in leaves.items()})
    (tmp_path / "adapter").mkdir()
    write_lora(tmp_path / "adapter/adapter_model.safetensors", factors, INTERNLM2, tuned)
    loaded = ivjax.load(tmp_path / "w.safetensors", sizes=size, lora=tmp_path / "adapter")
    assert loaded.model.size == replace(size, language=tuned)
    lora = loaded.params["language"]["lora"]
    np.testing.assert_array_equal(lora["blocks"]["mlp"]["down"]["b"], factors["lora/blocks/mlp/down/b"])
    other = replace(size, language=replace(size.language, width=32), bridge=replace(size.bridge, out=32))
    write_originals(tmp_path / "other.safetensors", originals(INTERNVIDEO2_5_CHAT, other))
    # What was loaded so is written as it came.
    save_weights(tmp_path / "own.safetensors", loaded.params, "internvideo2_5_chat", loaded.model.size)
    export_file(tmp_path / "own.safetensors", tmp_path / "back/adapter_model.safetensors", lora=True)
    there, back = open_tensors(tmp_path / "adapter"), open_tensors(tmp_path / "back")
    assert set(there) == set(back) and all(np.array_equal(back[name], there[name]) for name in there)
    # So is what was imported with it.
    import_file(
        tmp_path / "w.safetensors",
        tmp_path / "both.safetensors",
        ImportChoices(sizes=size),
        lora=tmp_path / "adapter",
    )
    both = ivjax.load(tmp_path / "both.safetensors")
    assert both.model.size == loaded.model.size
    jax.tree.map(np.testing.assert_array_equal, both.params, loaded.params)
    with pytest.raises(UserError, match="adapter is a LoRA for another model than this internlm2"):
        ivjax.load(tmp_path / "other.safetensors", sizes=other, lora=tmp_path / "adapter")
    family = BY_NAME["videochat2_mistral"]
    write_originals(tmp_path / "chat.safetensors", drawn(family, tiny_of(family)))
    with pytest.raises(UserError, match="the model has a LoRA already; leave out"):
        ivjax.load(tmp_path / "chat.safetensors", sizes=tiny_of(family), lora=tmp_path / "adapter")
