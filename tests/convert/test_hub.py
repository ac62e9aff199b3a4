"""Models of the transformers library: what their files hold, what they compute, and their names again.

tests/golden/hub holds small random models as `save_pretrained` writes them, with inputs and outputs of the
library, and a TorchScript archive as `torch.jit.save` writes it, with its state dict.
"""

import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ivjax
from ivjax.convert.comparison import ImportChoices, compare
from ivjax.convert.conversion import export_file, import_file, inspect_file
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import Arrays
from ivjax.convert.origins import import_into
from ivjax.convert.registry import FAMILIES, family_of_sizes
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.viclip.sizes import PAIRS
from tests.convert.test_matching import Unread
from tests.goldens import close

GOLDEN = Path(__file__).parents[1] / "golden"
HUB = GOLDEN / "hub"
MANIFESTS = json.loads((GOLDEN / "manifests/hub.json").read_text())["models"]
NEW = ("temperature", "vision/temporal_embed")  # what ViCLIP has and CLIP lacks
FRESH = {"clip": NEW, "bert": ("proj",)}
# Of the small CLIP.
SIZES = {
    "vision": "VisionSize(width=24, depth=2, heads=2, out=12, patch=8, image=(16, 16))",
    "text": "TextSize(width=16, depth=2, heads=2, out=12, context=7, vocabulary=30)",
}
FAMILY = {
    "clip": "clip_hub",
    "videomae_pretrain": "videomae_pretrain_hub",
    "videomae_classifier": "videomae_classifier_hub",
    "bert": "bert",
}


def shapes_in(model):
    """Shapes of a manifest's tensors; a name with {0..11} stands for those of 12 layers."""
    shapes = {}
    for name, shape in MANIFESTS[model]["params"].items():
        layers = re.search(r"\{0\.\.(\d+)\}", name)
        numbers = range(int(layers[1]) + 1) if layers else [""]
        shapes |= {re.sub(r"\{.*\}", str(n), name): tuple(shape) for n in numbers}
    assert len(shapes) == MANIFESTS[model]["entries"]
    return shapes


def outputs(model):
    return dict(open_tensors(HUB / model / "outputs.safetensors"))


def clips(stored):
    """(B, T, 3, H, W) -> (B, T, H, W, 3)."""
    return jnp.moveaxis(jnp.asarray(stored["inputs/pixels"]), 2, -1)


FULL = {
    "clip_b16": ("clip_hub", "B16"),
    "clip_b32": ("clip_hub", "B32"),
    "clip_l14": ("clip_hub", "L14"),
    "clip_l14_336": ("clip_hub", "L14_336"),
    "videomae_base": ("videomae_pretrain_hub", "B16"),
    "videomae_large": ("videomae_pretrain_hub", "L16"),
    "videomae_base_k400": ("videomae_classifier_hub", "B16_k400"),
    "videomae_large_k400": ("videomae_classifier_hub", "L16_k400"),
    "videomae_base_ssv2": ("videomae_classifier_hub", "B16_ssv2"),
    "bert_base": ("bert", "base"),
    "bert_large": ("bert", "large"),
}


def fits_both_ways(model, preset=None):
    """Whether a full-size file and its family have the same names and shapes; the preset, found or given."""
    wanted, (family, expected) = shapes_in(model), FULL[model]
    fresh = {"clip_hub": NEW, "bert": ("proj",)}.get(family, ())
    report = compare(Unread(wanted), model, ImportChoices(preset=preset, fresh=fresh)).report
    assert (report.family, report.preset) == (family, expected)
    assert report.fits and not report.resized
    kind = FAMILIES[family]
    written = kind.original_tensors(Unread(kind.shapes(kind.presets[expected])))
    unused = set(report.unused)
    return {lazy.name: lazy.shape for lazy in written} == {n: s for n, s in wanted.items() if n not in unused}


@pytest.mark.parametrize("model", ["clip_b16", "videomae_base_k400", "bert_base"])
def test_full_size_files_of_the_hub_fit_both_ways(model):
    assert fits_both_ways(model, preset=FULL[model][1])


@pytest.mark.slow  # all presets of a family are traced
@pytest.mark.parametrize("model", FULL)
def test_the_preset_of_a_full_size_file_of_the_hub_is_found(model):
    assert fits_both_ways(model)


@pytest.mark.parametrize("model", FAMILY)
def test_an_export_has_the_names_and_the_bits_of_the_file_that_was_imported(model, tmp_path):
    own, back = tmp_path / "own.safetensors", tmp_path / "back.safetensors"
    report = import_file(HUB / model, own, ImportChoices(fresh=FRESH.get(model, ()))).report
    assert (report.family, report.preset) == (FAMILY[model], "config.json")
    export_file(own, back)
    theirs, ours = open_tensors(HUB / model), open_tensors(back)
    # The small BERT was saved without the name of its branch, which exports have.
    kept = {name.removeprefix("bert."): ours[name] for name in ours}
    assert set(kept) == {name for name in theirs if name != "logit_scale" and "pooler" not in name}
    for name, tensor in kept.items():
        assert tensor.tobytes() == theirs[name].tobytes(), name


def test_weights_of_the_hub_are_exported_under_the_originals_names_and_back(tmp_path):
    own, openai, again = (tmp_path / f"{name}.safetensors" for name in ("own", "openai", "again"))
    import_file(HUB / "clip", own, ImportChoices(fresh=NEW))
    export_file(own, openai, names="clip")
    tensors, theirs = open_tensors(openai), open_tensors(HUB / "clip")
    assert tensors.shape("visual.conv1.weight") == (24, 3, 8, 8)  # of images, as OpenAI's
    layer = "vision_model.encoder.layers.1.self_attn"
    wanted = np.concatenate([theirs[f"{layer}.{part}_proj.weight"] for part in "qkv"])
    found = tensors["visual.transformer.resblocks.1.attn.in_proj_weight"]
    np.testing.assert_array_equal(found, wanted)
    sizes = [f"{path}={value}" for path, value in SIZES.items()]
    import_file(openai, tmp_path / "o.safetensors", ImportChoices("clip", "B16", sizes, NEW))
    export_file(tmp_path / "o.safetensors", again, names="clip_hub")
    back = open_tensors(again)
    assert all(back[name].tobytes() == theirs[name].tobytes() for name in back) and len(back) == 77
    with pytest.raises(UserError, match="videomae_encoder names no models as clip_hub has; choose one of"):
        export_file(own, tmp_path / "x.pth", names="videomae_encoder")


def test_clip_of_the_hub_embeds_as_the_library_does():
    model, params, _ = ivjax.load(HUB / "clip", fresh=NEW)
    stored = outputs("clip")
    images = jnp.moveaxis(jnp.asarray(stored["inputs/pixels"]), 1, -1)[:, None]
    close(jax.jit(model.vision.encode)(params["vision"], images).pooled, stored["outputs/image"])
    ids = stored["inputs/ids"].astype(np.int32)
    close(jax.jit(model.text.encode)(params["text"], ids), stored["outputs/text"])


def test_videomae_of_the_hub_encodes_and_decodes_as_the_library_does():
    model, params, _ = ivjax.load(HUB / "videomae_pretrain")
    stored = outputs("videomae_pretrain")
    encoder = model.size.encoder.build(Compute("float32"))
    tokens = jax.jit(encoder.encode)(params["encoder"], clips(stored)).tokens
    close(tokens, stored["outputs/tokens"])
    hidden = stored["inputs/mask"]
    visible, decoded = (np.stack([np.flatnonzero(row == wanted) for row in hidden]) for wanted in (0, 1))
    close(jax.jit(model.predict)(params, clips(stored), visible, decoded), stored["outputs/logits"])


def test_a_classifier_of_the_hub_has_the_librarys_logits_and_the_classes_of_its_config():
    model, params, _ = ivjax.load(HUB / "videomae_classifier")
    stored = outputs("videomae_classifier")
    close(jax.jit(model.logits)(params, clips(stored)), stored["outputs/logits"])
    assert model.size.classes == 5 and not model.size.encoder.final_norm
    with pytest.raises(UserError, match="class 7 is wanted of .*, which has 5 classes"):
        ivjax.load(f"{HUB / 'videomae_classifier'}?head=8")


def test_bert_of_the_hub_has_the_librarys_states_and_sees_no_padding():
    model, params, _ = ivjax.load(HUB / "bert", fresh=("proj",))
    stored = outputs("bert")
    ids, real = stored["inputs/ids"].astype(np.int32), stored["inputs/mask"] > 0
    run = jax.jit(lambda ids: (model.tokens(params, ids), model.encode(params, ids)))
    states, embeddings = map(np.asarray, run(ids))
    close(states[real], stored["outputs/tokens"][real])
    # The first text without its padding.
    close(run(ids[:1, :4])[0], states[:1, :4])
    close(embeddings, states[:, 0] @ params["proj"]["kernel"] + params["proj"]["bias"])


def test_the_oldest_names_of_berts_norms_are_read():
    tensors = dict(open_tensors(HUB / "bert"))
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = Arrays({re.sub(r"LayerNorm\.\w+", lambda n: old[n[0]], name): t for name, t in tensors.items()})
    renamed.config = open_tensors(HUB / "bert").config
    assert compare(renamed, "w", ImportChoices(fresh=("proj",))).report.fits


def test_roberta_is_not_taken_for_bert():
    shapes = shapes_in("bert_base")
    table = "bert.embeddings.position_embeddings.weight"
    report = compare(Unread(shapes | {table: (514, 768)}), "w", ImportChoices(fresh=("proj",))).report
    assert [shape.name for shape in report.shapes] == [table.removeprefix("bert.")]


def test_an_encoder_is_read_out_of_a_pretraining_file_of_the_hub():
    size = FAMILIES["videomae_pretrain_hub"].hub.sizes(open_tensors(HUB / "videomae_pretrain").config)
    target = jax.eval_shape(size.encoder.build(Compute("float32")).init, jax.random.key(0))
    leaves = import_into(HUB / "videomae_pretrain", target, size.grid, kind=type(size.encoder))
    whole = ivjax.load(HUB / "videomae_pretrain").params["encoder"]
    assert leaves.keys() == import_into(HUB / "videomae_pretrain", whole, branch="encoder").keys()
    np.testing.assert_array_equal(leaves["patch_embed/kernel"], whole["patch_embed"]["kernel"])


def test_clip_of_the_hub_starts_viclip_as_openais_own_file_does(tmp_path):
    sizes = FAMILIES["clip_hub"].hub.sizes(open_tensors(HUB / "clip").config)
    target = jax.eval_shape(sizes.build(Compute("float32")).init, jax.random.key(0))
    script = HUB / "clip_script/clip_script.pt"
    for start in (HUB / "clip", script):
        leaves = import_into(start, target, sizes.grid)
        assert leaves["vision/blocks/attn/qkv/kernel"].shape == (2, 3, 24, 24)
    # The archive holds float16, as OpenAI's; a state dict of it is the same start.
    state = import_into(HUB / "clip_script/state.safetensors", target, sizes.grid)
    assert leaves.keys() == state.keys()
    for path, leaf in state.items():
        assert leaf.dtype == np.float32
        np.testing.assert_array_equal(leaves[path], leaf)


def test_runs_are_stored_under_the_originals_names():
    assert family_of_sizes(PAIRS["B16"]).name == "viclip"
    for name in ("videomae_pretrain", "videomae_encoder", "videomae_classifier"):
        assert family_of_sizes(next(iter(FAMILIES[f"{name}_hub"].presets.values()))).name == name


def test_old_and_new_names_of_biases_are_read_and_a_mixture_is_not():
    tensors = dict(open_tensors(HUB / "videomae_pretrain"))
    newer = {"q_bias": "query.bias", "v_bias": "value.bias"}
    renamed = {re.sub("[qv]_bias", lambda old: newer[old[0]], name): t for name, t in tensors.items()}
    other = Arrays(renamed)
    other.config = open_tensors(HUB / "videomae_pretrain").config
    assert compare(other, "w").report.fits
    mixed = Arrays(tensors | renamed)
    mixed.config = other.config
    assert "both" in compare(mixed, "w").report.problems()[0]


@pytest.mark.parametrize(
    "model, change, words",
    [
        (
            "clip",
            {"text_config": {"hidden_act": "gelu"}},
            "hidden_act=gelu in text_config",
        ),
        ("videomae_pretrain", {"hidden_act": "relu"}, "hidden_act=relu, and VideoMAE here has gelu"),
        ("videomae_classifier", {"use_mean_pooling": False}, "use_mean_pooling=false"),
    ],
)
def test_a_model_of_the_right_shapes_and_other_arithmetic_is_refused(model, change, words, tmp_path):
    shutil.copytree(HUB / model, tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    (tmp_path / "m/config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=words):
        inspect_file(tmp_path / "m")


def test_a_folder_of_the_hub_is_opened_by_its_weights(tmp_path):
    shutil.copytree(HUB / "clip", tmp_path / "m")
    (tmp_path / "m/pytorch_model.bin").write_bytes(b"the same weights in another format")
    assert set(open_tensors(tmp_path / "m")) == set(open_tensors(HUB / "clip"))
