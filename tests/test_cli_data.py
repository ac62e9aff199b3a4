"""`ivjax data ...` and `ivjax bench data`: from nothing to a corpus, what is printed, exit statuses."""

import json

import pytest

from ivjax.cli import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A demo corpus, built by the commands."""
    folder = tmp_path_factory.mktemp("cli")
    assert (
        main(["data", "demo", str(folder / "demo"), "--clips", "20", "--held-out", "2", "--workers", "1"])
        == 0
    )
    source, videos = str(folder / "demo/annotations.jsonl"), str(folder / "demo/videos")
    options = [
        "--videos",
        videos,
        "recipe.short_side=48",
        "shard_clips=8",
        "workers=1",
        "--min-score",
        "UMT_Score=0.2",
    ]
    assert main(["data", "build", source, str(folder / "shards"), *options]) == 0
    return folder


def test_built_corpora_are_in_order_and_a_damaged_one_is_not(made, capsys, tmp_path):
    assert main(["data", "validate", str(made / "shards"), "--decode", "all"]) == 0
    assert capsys.readouterr().out == f"{made / 'shards'}: in order\n"
    for file in (made / "shards").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    shard = next(tmp_path.glob("shard-*"))
    content = bytearray(shard.read_bytes())
    content[content.index(b"mdat") + 50] ^= 1
    shard.write_bytes(content)
    assert main(["data", "validate", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{shard.name} record 0: ") for line in lines)
    assert lines[-1].endswith(" faults")


def test_stats_show_and_tokenizer_write_their_files(made, capsys):
    assert main(["data", "stats", str(made / "shards"), "--json", "--png", str(made / "s.png")]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["clips"] == json.loads((made / "shards/manifest.json").read_text())["clips"] > 15
    assert main(["data", "show", str(made / "shards"), "--n", "2", "--png", str(made / "sheet.png")]) == 0
    for name in ("s.png", "sheet.png"):
        assert (made / name).read_bytes().startswith(b"\x89PNG")
    model = made / "words.model"
    assert main(["data", "tokenizer", "train", str(made / "shards"), str(model), "--size", "320"]) == 0
    assert capsys.readouterr().out.endswith(f"{model}\n") and model.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["validate", "NONE"], "is not a corpus"),
        (["build", "NONE", "OUT"], "does not exist"),
        (["build", "SOURCE", "OUT", "recipe.short_sid=4"], "did you mean 'recipe.short_side'"),
        (["build", "SOURCE", "OUT", "recipe.encoding.preset=slowly"], "slowly"),
        (["build", "SOURCE", "OUT", "--min-score", "UMT_Score=9"], "gives nothing to build"),
        (["build", "SOURCE", "OUT", "--kind", "film"], "no source of kind 'film'"),
        (["build", "SOURCE", "SHARDS", "recipe.short_side=64"], "another"),
        (["demo", "OUT", "--clips", "0"], "clips"),
        (["tokenizer", "train", "SHARDS", "OUT", "--size", "9"], "no tokenizer of 9 pieces"),
        (["validate", "SHARDS", "--decode", "some"], "'some' is not a number"),
        (["validate", "SHARDS", "--decode", "nan"], "'nan' is not a number"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(made, arguments, words, capsys, tmp_path):
    places = {
        "NONE": tmp_path / "none",
        "OUT": tmp_path / "out",
        "SOURCE": made / "demo/annotations.jsonl",
        "SHARDS": made / "shards",
    }
    arguments = [str(places.get(word, word)) for word in arguments]
    if arguments[0] == "build":
        arguments += ["--videos", str(made / "demo/videos")]
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ivjax data: ") and words in error and error.count("\n") == 1


@pytest.mark.slow
def test_bench_data_prints_parts_loaders_and_memory(made, capsys):
    options = ["--clips", "8", "--frames", "2", "--side", "32", "--workers", "1", "--records", "200"]
    assert main(["bench", "data", str(made / "shards"), *options]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    parts, rates, loader, memory = lines
    assert {"bare", "sequential", "read", "decode", "resize", "augment", "example"} < set(parts)
    assert rates["bare"] == pytest.approx(1e3 / parts["bare"], rel=0.1)
    assert loader["workers"] == 1 and loader["clips_per_s"] > 0 and loader["of_bare"] > 0
    assert len(memory["mib"]) == 8 and min(memory["mib"]) > 50
