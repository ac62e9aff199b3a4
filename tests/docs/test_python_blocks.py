"""Blocks of Python run in the order of their page, beside small runs and videos.

Of a block that needs more the imports are found. docs/api.md and docs/extending.md have tests of their own.
"""

import ast
import importlib

import numpy as np
import pytest

from ivjax.data_pipelines import data_options as dp
from ivjax.data_pipelines.demo.needle_video import NeedleVideo
from ivjax.experiment.run_folder import read_metrics
from tests.data_pipelines.corpora import make_clip
from tests.docs.pages import PAGES, blocks
from tests.evals.small_run import save_small_run, write_test_set
from tests.generate.small_dialogue import save_dialogue_run
from tests.report.folders import logged, result_of, write_run
from tests.train.processes import ROOT

ELSEWHERE = {"docs/api.md": "tests/test_api.py", "docs/extending.md": "tests/test_extending.py"}
FRAMES = np.zeros((6, 32, 40, 3), np.uint8)
MIXTURE = dp.Mixture((dp.Corpus("shards/demo"),), {"video": dp.Frames(dp.Intervals(4))})
# Names that a page takes for granted, because its words say what they are.
GIVEN = {
    "README.md": {"frames": FRAMES},
    "docs/data.md": {"clips": MIXTURE, "images": MIXTURE},
    "docs/experiments.md": {"EPOCH_K600": 100},
    "docs/stage2.md": {"heard": MIXTURE, "clips": MIXTURE, "images": MIXTURE},
}
PYTHON = {page: [block for block in blocks(page) if block.language == "python"] for page in PAGES}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the blocks read."""
    folder = tmp_path_factory.mktemp("blocks")
    save_small_run(folder / "runs" / "viclip_tiny", write_test_set(folder / "corpus"))
    save_dialogue_run(folder / "runs" / "dialogue_tiny")
    results = {"probe.json": result_of("probe", "runs/tiny", {"top1": 50.0})}
    write_run(folder / "runs" / "tiny", logged(40), {"batch": "16"})
    write_run(folder, results=results)
    (folder / "a.mp4").write_bytes(make_clip(0).payload)
    (folder / "clip.mp4").write_bytes(NeedleVideo(1, 0, 40).encode())
    np.save(folder / "frames.npy", FRAMES)
    return folder


def run(page, place, monkeypatch):
    """Runs the blocks of a page that need nothing; returns the names that they leave."""
    monkeypatch.chdir(place)
    names = {"__name__": "page", **GIVEN.get(page, {})}
    for block in PYTHON[page]:
        if block.needs is None:
            # Lines keep their numbers, so that a traceback names the line of the page.
            code = "\n" * (block.line - 1) + block.text
            exec(compile(code, block.page, "exec", dont_inherit=True), names)
    return names


RUN = sorted(page for page, found in PYTHON.items() if found and page not in ELSEWHERE)
MARKED = sorted({page for page, found in PYTHON.items() for block in found if block.needs})
SLOW = {"docs/stage3.md"}  # its programs take half a minute to compile


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in RUN]
)
def test_the_blocks_of_a_page_run(page, place, monkeypatch):
    names = run(page, place, monkeypatch)
    CHECKS.get(page, lambda names: None)(names)


def check_features(names):
    assert names["vectors"].shape == (2, 16) and np.isfinite(names["vectors"]).all()
    # What follows the features compares them with words.
    assert names["cosines"].shape[0] == 2 and np.abs(names["cosines"]).max() <= 1.001


def check_merging(names):
    merged = names["merged"]
    assert merged.tokens.shape == (2, 64, 4096) and float(merged.sizes.sum()) == 2048
    assert int(merged.assignment.max()) == 63


def check_dialogue(names):
    assert names["logits"].shape == (1, names["ids"].shape[1], names["size"].vocabulary)
    assert len(names["scores"]) == 2 and len(names["answers"]) == 1
    assert [bucket.name for bucket in names["stage"].buckets] == ["long", "short"]


def check_report(names):
    assert names["page"].is_file() and "probe" in names["page"].read_text()
    assert read_metrics(names["Path"]("runs/tiny"))[-1]["step"] == 40


def check_data(names):
    assert names["SoundLevel"](0.5).arrays("level") == ("level",)
    assert names["caption"].mixer.parts[1].chance == 0.5
    assert names["corpora"][1].changes == ("video.augment.flip=0", "video.rule=Ticks(8)")


def check_train(names):
    assert [phase.steps for phase in names["phases"]] == [80_000, 8_000]
    assert names["checkpoint"].best == "retrieval/t2v_r1" and names["trains"][0].rate == 0


def check_sharding(names):
    rules = {rule.pattern: rule for rule in names["RULES"]}
    assert rules["temperature"].bounds == (0.001, 0.5) and rules["head/kernel"].axes == ("fsdp", "tensor")


CHECKS = {
    "README.md": check_features,
    "docs/data.md": check_data,
    "docs/getting_started.md": check_features,
    "docs/hico.md": check_merging,
    "docs/report.md": check_report,
    "docs/sharding.md": check_sharding,
    "docs/stage3.md": check_dialogue,
    "docs/train.md": check_train,
}


@pytest.mark.parametrize(
    "page", sorted(page for page, found in PYTHON.items() if any(b.needs for b in found))
)
def test_what_needs_more_than_a_laptop_is_valid_and_imports_what_exists(page):
    for block in PYTHON[page]:
        tree = ast.parse(block.text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                missing = [each.name for each in node.names if not hasattr(module, each.name)]
                assert missing == [], f"{block}: {node.module} has no {missing}"
            elif isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "ivjax":
                assert hasattr(importlib.import_module("ivjax"), node.attr), f"{block}: ivjax.{node.attr}"


def test_pages_whose_blocks_other_tests_run_are_named_there():
    for page, test in ELSEWHERE.items():
        assert PYTHON[page] and page.removeprefix("docs/") in (ROOT / test).read_text()
