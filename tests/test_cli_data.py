"""`ivjax data ...` and `ivjax bench data`: from nothing to a corpus, what is printed, exit statuses."""

import json

import pytest

from ivjax.cli import main
from ivjax.data_pipelines.store.records import unpack
from ivjax.data_pipelines.store.shards import open_shards
from tests.data_pipelines.corpora import corpus_of, make_clip


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
    *digests, verdict = capsys.readouterr().out.splitlines()
    assert verdict == f"{made / 'shards'}: in order"
    assert [line.rpartition(":")[0] for line in digests] == ["digest of the bytes", "digest of the source"]
    assert main(["data", "compare", str(made / "shards"), str(made / "shards")]) == 0
    assert capsys.readouterr().out.endswith("source: the same\nthe corpora are equal\n")
    for file in (made / "shards").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    shard = next(tmp_path.glob("shard-*"))
    content = bytearray(shard.read_bytes())
    content[content.index(b"mdat") + 50] ^= 1
    shard.write_bytes(content)
    assert main(["data", "compare", str(made / "shards"), str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["unreadable"] == 1
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
        (["build", "SOURCE", "OUT", "--stride", "2"], "--stride needs --window"),
        (["build", "SOURCE", "OUT", "--window", "0"], "windows.seconds=0.0 is not above 0"),
        (["build", "SOURCE", "OUT", "--classes", "NONE"], "is neither a file nor a corpus"),
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


def test_windows_are_cut_by_the_command(made, capsys, tmp_path):
    video = next((made / "demo/videos").glob("*.mp4"))
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / "a.mp4").write_bytes(video.read_bytes())
    words = [
        "data",
        "build",
        str(tmp_path / "long"),
        str(tmp_path / "out"),
        "--window",
        "2",
        "--stride",
        "1.5",
    ]
    assert main([*words, "recipe.windows.rest=drop", "recipe.short_side=48", "workers=1"]) == 0
    printed = capsys.readouterr()
    assert "no row has a caption or a label; in a table" in printed.out + printed.err
    with open_shards(tmp_path / "out") as shards:
        clips = [unpack(shards[number]) for number in range(len(shards))]
    assert len(clips) > 1 and all(clip.start == 1.5 * n for n, clip in enumerate(clips))
    assert all(clip.end - clip.start == 2.0 for clip in clips)
    made_with = json.loads((tmp_path / "out/manifest.json").read_text())["made_with"]
    assert made_with["recipe"]["windows"] == {"seconds": 2.0, "stride": 1.5, "rest": "drop"}


def test_bench_data_says_in_a_sentence_that_a_clip_is_broken(tmp_path, capsys):
    corpus_of(tmp_path, [make_clip(0, 2, start=-1.0)], 1)
    options = ["--clips", "1", "--frames", "2", "--side", "32", "--workers", "0", "--records", "0"]
    assert main(["bench", "data", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "wrong times: clip clip0 runs from -1.0 s" in error
    assert "`ivjax data validate" in error


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


@pytest.mark.parametrize("words", [("validate", "{}"), ("show", "{}"), ("build", "rows.csv", "{}")])
def test_commands_that_read_disks_alone_name_the_bucket(words, capsys):
    said = "gs://clips/demo is in a bucket, which training and evals alone read; mount it"
    assert main(["data", *(word.format("gs://clips/demo") for word in words)]) == 2
    assert said in capsys.readouterr().err
