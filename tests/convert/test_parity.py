"""Layer by layer against the originals' fixtures, and what `ivjax convert parity` prints of it."""

import functools
import json
import shutil

import numpy as np
import pytest

from ivjax.cli import main
from ivjax.convert import parity
from ivjax.errors import UserError
from tests import goldens
from tests.convert.originals import write_originals
from tests.goldens import Golden

pytestmark = pytest.mark.golden
# Once for each pair of files, also where the command asks: to compile both dtypes takes seconds.
check_parity = functools.cache(parity.check_parity)


@pytest.fixture(autouse=True)
def checked_once(monkeypatch):
    monkeypatch.setattr(parity, "check_parity", check_parity)


def fixture(name):
    return goldens.FOLDER / f"{Golden(name).name}.safetensors"


@pytest.mark.parametrize("name", ["viclip_tiny", pytest.param("stage1_pretrain_l2", marks=pytest.mark.slow)])
def test_every_layer_is_the_originals(name):
    golden, found = Golden(name), check_parity(fixture(name), fixture(name))
    exact = [line for line in found.layers if line.dtype == "float32"]
    half = [line for line in found.layers if line.dtype == "bfloat16"]
    assert found.holds and [line.layer for line in exact] == [line.layer for line in half]
    layers = {line.layer for line in exact}
    assert {layer for layer in golden.group("outputs") if "block" in layer or "features" in layer} <= layers
    assert max(line.relative for line in exact) < 2e-6 and min(line.cosine for line in exact) > 1 - 1e-6
    assert 1e-4 < max(line.relative for line in half) < 0.05
    assert f"{name}\n" in found.text() and found.as_dict()["holds"]


def test_viclip_tiny_is_printed_as_a_table_or_as_json(capsys):
    command = ["convert", "parity", str(fixture("viclip_tiny")), "--fixture", str(fixture("viclip_tiny"))]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "viclip on viclip_tiny" and lines[-1] == "float32 is within 0.001 relative"
    assert lines[1].split() == ["layer", "dtype", "max", "abs", "relative", "cosine"]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["layers"]
    assert {line["dtype"] for line in printed} == {"float32", "bfloat16"}


def test_viclip_tiny_with_one_layer_changed_differs_from_there_on(tmp_path, capsys):
    params = Golden("viclip_tiny").group("params")
    last = Golden("viclip_tiny").config["vision"]["layers"] - 1
    params[f"vision_encoder.transformer.resblocks.{last}.mlp.c_fc.bias"] += np.float32(0.1)
    weights = write_originals(tmp_path / "w.pth", params)
    found = check_parity(weights, fixture("viclip_tiny"))
    wrong = [line.layer for line in found.layers if line.dtype == "float32" and line.relative > 1e-3]
    assert not found.holds and wrong[0] == f"full/vision_block{last}_out"
    assert "full/vision_features" in wrong and "text_features" not in wrong
    assert main(["convert", "parity", str(weights), "--fixture", str(fixture("viclip_tiny"))]) == 1
    assert capsys.readouterr().out.endswith("float32 is beyond 0.001 relative\n")


def test_viclip_tiny_is_no_fixture_of_another_family(tmp_path):
    with pytest.raises(UserError, match="no fixture of internvideo2_pretrain: its config lacks 'img_size'"):
        check_parity(fixture("stage1_pretrain_l2"), fixture("viclip_tiny"))
    shutil.copy(fixture("viclip_tiny"), tmp_path / "alone.safetensors")
    with pytest.raises(UserError, match="alone.json cannot be read"):
        check_parity(fixture("viclip_tiny"), tmp_path / "alone.safetensors")


def test_viclip_tiny_without_its_inputs_is_an_error(tmp_path):
    golden = Golden("viclip_tiny")
    shutil.copy(fixture("viclip_tiny").with_suffix(".json"), tmp_path / "part.json")
    part = {name: tensor for name, tensor in golden.tensors.items() if name != "inputs/text_ids"}
    write_originals(tmp_path / "part.safetensors", part)
    with pytest.raises(UserError, match="part.safetensors cannot be run: it holds no inputs/text_ids"):
        check_parity(fixture("viclip_tiny"), tmp_path / "part.safetensors")


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        pytest.param(
            "s3_intern_vit_6b_style", {"hidden_states/1", "last_hidden_state"}, marks=pytest.mark.slow
        ),
        ("s3_internvideo25_tiny", {"visual_tokens", "inputs_embeds", "logits"}),
    ],
)
def test_models_of_stage_3_are_the_originals(name, layers):
    found = parity.check_parity(fixture(name), fixture(name))
    assert found.holds and layers <= {line.layer for line in found.layers}
