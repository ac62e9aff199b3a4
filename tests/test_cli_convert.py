"""`ivjax convert ...`: what is printed, what is written, exit statuses."""

import argparse
import json

import pytest

from ivjax.cli import convert, main
from ivjax.convert.formats.opening import open_tensors
from ivjax.convert.registry import FAMILIES
from ivjax.errors import UserError
from tests.convert.originals import originals, use_small_families, write_originals


def run(*arguments):
    parser = argparse.ArgumentParser()
    convert.add(parser.add_subparsers(dest="command"))
    options = parser.parse_args(["convert", *map(str, arguments)])
    return options.run(options)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    use_small_families(monkeypatch)
    return write_originals(tmp_path / "w.pth", originals())


def test_inspect_names_family_and_preset(weights, capsys):
    assert run("inspect", weights) == 0
    printed = capsys.readouterr().out
    assert "family    viclip\npreset    small\ncontainer model\n" in printed and printed.endswith("\nfits\n")
    assert run("inspect", weights, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fits"] and report["matched"] == len(originals()) and report["missing"] == {}


def test_inspect_of_a_file_that_does_not_fit_has_status_one(weights, capsys):
    assert run("inspect", weights, "--preset", "wide") == 1
    printed = capsys.readouterr().out
    assert "error     vision_encoder.class_embedding is (12,) in the file and (16,) in the model" in printed
    assert run("inspect", weights, "--preset", "wide", "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["fits"] and report["shapes"][0]["wanted"] == [16]
    with pytest.raises(UserError, match="looks like viclip"):
        run("inspect", weights, "--family", "internvideo2_pretrain")


def test_import_and_export_write_the_files_that_they_print(weights, tmp_path, capsys):
    out, options = tmp_path / "own.safetensors", ("--dtype", "bfloat16", "--shard-size", "4kB")
    assert run("import", weights, out, "vision.frames=2", *options, "--fresh", "temperature", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["resized"] == {"vision_encoder.temporal_positional_embedding": "resized from 4 to 2"}
    assert result["fresh"] == ["temperature"] and len(result["files"]) > 2
    assert open_tensors(out).shape("vision/temporal_embed") == (1, 2, 12)
    assert run("export", out, tmp_path / "back.pth") == 0
    assert f"wrote     {tmp_path / 'back.pth'}\n" in capsys.readouterr().out
    back = open_tensors(tmp_path / "back.pth")
    assert {back[name].dtype.name for name in back} == {"bfloat16"} and set(back) == set(originals())
    assert run("export", out, tmp_path / "back.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == sum(back[name].nbytes for name in back)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["import", "NONE", "OUT"], "does not exist"),
        (["import", "FILE", "FILE"], "must end in .safetensors"),
        (["import", "FILE", "OUT", "--shard-size", "much"], "'much' is no size"),
        (["import", "FILE", "OUT", "--preset", "huge"], "has no preset 'huge'"),
        (["import", "FILE", "OUT", "vision.frame=2"], "did you mean 'vision.frames'"),
        (["import", "FILE", "OUT", "vision.width=14"], "choose the preset or the sizes it was trained with"),
        (["import", "FILE", "OUT", "vision.heads=5"], "no viclip of these sizes can be built: .*; mend"),
        (["import", "FILE", "OUT", "--fresh", "head"], "fresh pattern head"),
        (["export", "FILE", "OUT"], "convert import. on it first"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(weights, tmp_path, arguments, words):
    names = {"FILE": weights, "NONE": tmp_path / "none.pth", "OUT": tmp_path / "out.safetensors"}
    with pytest.raises(UserError, match=words):
        run(*(names.get(a, a) for a in arguments))
    assert list(tmp_path.iterdir()) == [weights]


def test_families_are_listed_and_one_of_them_with_the_options_of_its_sizes(capsys):
    assert main(["convert", "families"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{name}: {family.about}\n" in f"\n{listed}" for name, family in FAMILIES.items())
    assert main(["convert", "families", "clip_hub"]) == 0
    detail = capsys.readouterr().out
    assert "import FILE clip_hub.safetensors --fresh temperature vision/temporal_embed" in detail
    assert "vision.frames = 8" in detail and "integer at least 1: frames of a clip." in detail
    assert main(["convert", "families", "--json"]) == 0
    facts = {entry["family"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert facts.keys() == FAMILIES.keys()
    assert facts["videomae_encoder"]["tensors"][0] == "encoder.pos_embed"
    assert main(["convert", "families", "clipp"]) == 2
    assert "there is no family 'clipp'" in capsys.readouterr().err
