"""Language models: names and shapes at full size, bits there and back, and what their config.json says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

import ivjax
from ivjax.cli import main
from ivjax.convert.catalogue import CatalogueEntry
from ivjax.convert.comparison import ImportChoices, compare
from ivjax.convert.conversion import export_file, import_file
from ivjax.convert.families.dialogue.language_configs import decoder_size
from ivjax.convert.families.dialogue.language_models import INTERNLM2, LLAMA, PHI3
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.formats.tensors import Arrays
from ivjax.convert.origins import import_into
from ivjax.errors import UserError
from ivjax.models.decoder.sizes import LanguageSize, Rotary
from tests.convert.originals import originals, write_originals
from tests.convert.test_matching import Unread

MANIFESTS = Path(__file__).parents[1] / "golden/manifests/language_models.json"
TINY = LanguageSize.PRESETS["tiny"]
SMALL = replace(TINY, width=24, depth=2, heads=6, kv_heads=2, mlp_width=20, vocabulary=30)
EMBEDDING = {"llama": "model.embed_tokens.weight", "internlm2": "model.tok_embeddings.weight"}
CONFIG = {
    "model_type": "internlm2",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 20,
    "vocab_size": 30,
    "bias": False,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 4096,
}


def shapes_in(model):
    """Shapes of a manifest's tensors; a name with {0..31} stands for those of 32 layers."""
    entry = json.loads(MANIFESTS.read_text())["models"][model]
    shapes = {}
    for name, shape in entry["params"].items():
        layers = re.search(r"\{0\.\.(\d+)\}", name)
        numbers = range(int(layers[1]) + 1) if layers else [""]
        shapes |= {re.sub(r"\{.*\}", str(n), name): tuple(shape) for n in numbers}
    assert len(shapes) == entry["entries"]
    return shapes, entry["total_params"]


@pytest.mark.parametrize(
    "model, family",
    [
        pytest.param("vicuna_7b", LLAMA, marks=pytest.mark.slow),
        pytest.param("mistral_7b", LLAMA, marks=pytest.mark.slow),
        pytest.param("qwen2_7b", LLAMA, marks=pytest.mark.slow),
        ("qwen2_5_1_5b", LLAMA),
        ("phi3_mini_4k", PHI3),
        ("internvl_internlm2_5_7b", INTERNLM2),
    ],
)
def test_full_size_language_models_fit_both_ways(model, family):
    wanted, total = shapes_in(model)
    # Without a preset each of them is compared, which takes a second; two cases show that the nearest is.
    preset = None if model in ("qwen2_5_1_5b", "internvl_internlm2_5_7b") else model
    report = compare(Unread(wanted), model, ImportChoices(preset=preset)).report
    assert (report.family, report.preset) == (family.name, model)
    assert report.fits and not report.unused
    size = family.presets[model]
    leaves = family.shapes(size)
    assert sum(np.prod(shape, dtype=np.int64) for shape in leaves.values()) == total
    written = {lazy.name: lazy.shape for lazy in family.original_tensors(Unread(leaves), size)}
    assert written == wanted


CASES = {
    "llama": (LLAMA, SMALL),
    "biases": (LLAMA, replace(SMALL, qkv_bias=True)),
    "tied": (LLAMA, replace(SMALL, tied=True)),
    "phi3": (PHI3, SMALL),
    "internlm2": (INTERNLM2, SMALL),
    "internlm2_biases": (INTERNLM2, replace(SMALL, qkv_bias=True, proj_bias=True)),
    "all_biases": (LLAMA, replace(SMALL, qkv_bias=True, proj_bias=True, mlp_bias=True)),
}


@pytest.mark.parametrize("case", CASES)
def test_an_export_has_the_names_and_the_bits_of_the_file_that_was_imported(case, tmp_path):
    family, size = CASES[case]
    theirs = originals(family, size, ml_dtypes.bfloat16)
    write_originals(tmp_path / "theirs.safetensors", theirs)
    choices = ImportChoices(family.name, sizes=size)
    import_file(tmp_path / "theirs.safetensors", tmp_path / "own.safetensors", choices)
    export_file(tmp_path / "own.safetensors", tmp_path / "back.safetensors")
    back = open_tensors(tmp_path / "back.safetensors")
    assert set(back) == set(theirs)
    assert all(back[name].tobytes() == tensor.tobytes() for name, tensor in theirs.items())


def test_wqkv_holds_each_groups_queries_then_its_key_then_its_value():
    head, width = SMALL.head, SMALL.width
    # Row r of the packed kernel is filled with r.
    rows = (SMALL.heads + 2 * SMALL.kv_heads) * head
    name = "model.layers.0.attention.wqkv.weight"
    packed = Arrays({name: np.broadcast_to(np.arange(rows, dtype="f")[:, None], (rows, width))})
    parts = INTERNLM2.unpacked(packed, SMALL)
    heads = {part: parts[f"{name}[{part}]"][:, 0].reshape(-1, head)[:, 0] / head for part in "qkv"}
    assert heads["q"].tolist() == [0, 1, 2, 5, 6, 7]
    assert heads["k"].tolist() == [3, 8] and heads["v"].tolist() == [4, 9]


def test_the_list_of_families_has_the_names_of_whole_tensors():
    names = CatalogueEntry(INTERNLM2).as_dict()["tensors"]
    assert names.count("model.layers.0.attention.wqkv.weight") == 1 and not any("[" in name for name in names)


def test_a_larger_vocabulary_is_taken_from_the_file_and_reported():
    size = replace(LLAMA.presets["qwen2_7b"], vocabulary=152_100)
    tensors = {lazy.name: lazy.shape for lazy in LLAMA.original_tensors(Unread(LLAMA.shapes(size)), size)}
    compared = compare(Unread(tensors), "w", ImportChoices(preset="qwen2_7b"))
    assert compared.sizes == size and compared.report.fits
    assert compared.report.preset == "qwen2_7b with vocabulary=152100 instead of 152064, as in the file"


def test_a_tied_head_may_be_repeated_and_must_be_equal(tmp_path):
    tensors = originals(*CASES["tied"])
    embedding = tensors[EMBEDDING["llama"]]
    sizes = ImportChoices("llama", sizes=CASES["tied"][1])
    repeated = compare(Arrays(tensors | {"lm_head.weight": embedding}), "w", sizes).report
    assert repeated.fits and repeated.ties == {"lm_head.weight": EMBEDDING["llama"]}
    other = compare(Arrays(tensors | {"lm_head.weight": embedding + 1}), "w", sizes).report
    assert "lm_head.weight differs from model.embed_tokens.weight" in other.problems()[0]


def test_a_folder_is_loaded_by_its_config(tmp_path):
    tensors = originals(INTERNLM2, SMALL)
    write_originals(tmp_path / "model.safetensors", tensors)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    loaded = ivjax.load(tmp_path)
    assert loaded.model.size == SMALL and "internlm2" in repr(loaded)
    wqkv = tensors["model.layers.1.attention.wqkv.weight"].reshape(2, 5, 4, 24)
    np.testing.assert_array_equal(
        loaded.params["blocks"]["attn"]["k"]["kernel"][1], wqkv[:, 3].reshape(8, 24).T
    )
    # A branch of a larger model is filled from the same folder.
    found = import_into(tmp_path, jax.eval_shape(loaded.model.init, jax.random.key(0)), kind=LanguageSize)
    np.testing.assert_array_equal(
        found["blocks/attn/k/kernel"], loaded.params["blocks"]["attn"]["k"]["kernel"]
    )
    words = tensors[EMBEDDING["internlm2"]]
    more = tensors | {EMBEDDING["internlm2"]: np.concatenate([words, words[:3]])}
    more["output.weight"] = more[EMBEDDING["internlm2"]]
    (tmp_path / "model.safetensors").unlink()
    write_originals(tmp_path / "model.safetensors", more)
    assert ivjax.load(tmp_path).model.size.vocabulary == 33


def test_weights_packed_for_other_heads_are_told():
    tensors = originals(INTERNLM2, SMALL)
    report = compare(Arrays(tensors), "w", ImportChoices(sizes=replace(SMALL, kv_heads=3))).report
    assert any("wqkv.weight[q] is (40, 24) in the file" in problem for problem in report.problems())


YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
LONG = {"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 3.0]}


@pytest.mark.parametrize(
    "config, size",
    [
        ({}, SMALL),
        ({"bias": True}, replace(SMALL, qkv_bias=True, proj_bias=True)),
        (
            {"model_type": "llama", "attention_bias": True},
            replace(SMALL, qkv_bias=True, proj_bias=True),
        ),
        ({"model_type": "llama", "mlp_bias": True}, replace(SMALL, mlp_bias=True)),
        (
            {"rope_scaling": {"type": "linear", "factor": 3.0}},
            replace(SMALL, rotary=Rotary(1e4, "linear", 3.0)),
        ),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            replace(SMALL, rotary=Rotary(1e4, "dynamic", 2.0)),
        ),
        ({"model_type": "llama", "num_key_value_heads": None}, replace(SMALL, kv_heads=6)),
        ({"model_type": "mistral", "sliding_window": 7}, replace(SMALL, window=7)),
        ({"model_type": "mistral", "head_dim": 8}, replace(SMALL, head_width=8)),
        (
            {"model_type": "qwen2", "tie_word_embeddings": True, "rope_scaling": YARN},
            replace(SMALL, tied=True, qkv_bias=True, rotary=Rotary(1e4, "yarn", 4.0, 32768)),
        ),
        ({"model_type": "qwen2", "sliding_window": 9, "max_window_layers": 2}, replace(SMALL, qkv_bias=True)),
        (
            {
                "model_type": "phi3",
                "rope_scaling": LONG,
                "original_max_position_embeddings": 2048,
                "sliding_window": 2047,
            },
            replace(
                SMALL,
                window=2047,
                rotary=Rotary(1e4, "long", 1.0, 2048, 4096, (1.0, 1.5), (2.0, 3.0)),
            ),
        ),
        (
            {"model_type": "phi3", "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
            replace(SMALL, rotary=Rotary(500.0)),
        ),
    ],
)
def test_sizes_are_read_from_a_config(config, size):
    assert decoder_size(CONFIG | config) == size


@pytest.mark.parametrize(
    "config, words",
    [
        ({"model_type": "gemma"}, "model_type=gemma; language models here are llama"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "scales positions by llama3"),
        ({"partial_rotary_factor": 0.75}, "turns 0.75 of each head"),
        ({"rope_scaling": YARN | {"mscale": 0.7}}, "mscale=0.7"),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
            "to some layers only",
        ),
    ],
)
def test_a_config_of_another_arithmetic_is_refused(config, words):
    with pytest.raises(UserError, match=words):
        decoder_size(CONFIG | config)


WRONG = "its config.json has a value of the wrong kind for internlm2; take the one that came with the weights"


@pytest.mark.parametrize(
    "config, words",
    [
        ({"hidden_size": None}, WRONG),
        ({"num_attention_heads": 0}, WRONG),
        ({"rope_scaling": ["dynamic"]}, WRONG),
        (
            {"rope_scaling": {"type": "dynamic"}},
            "its config.json lacks 'factor', needed for internlm2; take the one that came with the weights",
        ),
    ],
)
def test_a_broken_config_is_one_sentence(config, words, tmp_path, capsys):
    write_originals(tmp_path / "model.safetensors", originals(INTERNLM2, SMALL))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | config))
    assert main(["convert", "inspect", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert words in printed.err and printed.err.count("\n") == 1 and not printed.out
