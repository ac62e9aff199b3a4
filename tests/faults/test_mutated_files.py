"""Mutated weight files, corpora, datasets, settings and commands end in success or in one sentence.

No traceback, no crash, no code that runs; less than three times the file and 500 MB of memory, and 10 s of
CPU time each. All mutations are drawn from a seed, so that a case is the same in each run.
"""

import argparse
import dataclasses
import itertools
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.numpy import load_file

from ivjax.convert.comparison import ImportChoices
from ivjax.convert.conversion import export_file, import_file
from ivjax.convert.registry import FAMILIES
from ivjax.data_pipelines.build.build_corpus import build
from ivjax.data_pipelines.build.options import BuildOptions
from ivjax.data_pipelines.demo.demo_corpus import make_demo
from ivjax.data_pipelines.store.manifest import MANIFEST
from ivjax.data_pipelines.tokenizers.sentencepiece_training import corpus_captions, train_sentencepiece
from tests.convert.language_folders import tiny_with, write_language_model
from tests.convert.torch_files import write_torch
from tests.faults import mutated_corpora, mutated_datasets, mutated_safetensors, mutated_torch, mutated_words
from tests.faults.sandbox import CPU_SECONDS, Case, Outcome, run_cases, status_of

HUB = Path(__file__).parents[1] / "golden/hub"
FEW = 20  # cases of each kind that run in every session; all run where slow tests do
_BATCH = 100  # cases that lie on the disk at a time
_LONGEST_SENTENCE = 3500  # characters: a message has 3,000, and the command's name goes before it
_MEMORY = 500 << 20


class Whole(NamedTuple):
    """A folder that holds a whole weight file, and the file."""

    folder: Path
    file: str


@pytest.fixture(scope="module")
def wholes(tmp_path_factory) -> list[Whole]:
    """Small weight files: of the Hub, of a language model with packed tensors, of this project, in shards."""
    base = tmp_path_factory.mktemp("wholes")
    hub = [Whole(HUB / name, "model.safetensors") for name in ("videomae_classifier", "bert", "clip")]
    packed = write_language_model(base / "internlm2", FAMILIES["internlm2"], "internlm2", tiny_with(64))
    (base / "own").mkdir()
    import_file(HUB / "videomae_classifier", base / "own/own.safetensors", say=lambda line: None)
    (base / "sharded").mkdir()
    out = base / "sharded/own.safetensors"
    shards = import_file(HUB / "videomae_classifier", out, ImportChoices(), 9000, lambda line: None).files
    mine = [Whole(packed, "model.safetensors"), Whole(out.parent, shards[0].name)]
    return [*hub, *mine, Whole(base / "own", "own.safetensors")]


@pytest.fixture(scope="module")
def torch_wholes(wholes, tmp_path_factory) -> list[bytes]:
    """Small torch files: as this project exports them, with settings beside the weights, and a program."""
    base = tmp_path_factory.mktemp("torch")
    own = wholes[-1]
    export_file(own.folder / own.file, base / "own.pth", lambda line: None)
    tensors = load_file(HUB / "videomae_classifier/model.safetensors")
    args = argparse.Namespace(lr=1e-3, betas=(0.9, 0.95), name="run")
    write_torch(base / "run.pth", {"model": tensors, "args": args, "epoch": 3, "optimizer": {"state": {}}})
    files = (base / "own.pth", base / "run.pth", HUB / "clip_script/clip_script.pt")
    return [file.read_bytes() for file in files]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A corpus of the demo's clips in three shards; a vocabulary of its captions lies beside it."""
    base = tmp_path_factory.mktemp("demo")
    demo = make_demo(base / "demo", 9, seed=5, held_out=1, workers=1, say=lambda line: None)
    options = BuildOptions(str(demo.annotations), base / "corpus", videos=str(demo.videos), shard_clips=3)
    assert build(options, lambda line: None).shards == 3
    train_sentencepiece(corpus_captions(base / "corpus"), base / "words.model", 320)
    return base / "corpus"


def safetensors_cases(wholes: list[Whole], folder: Path) -> Iterator[Case]:
    """Yields readings of mutated .safetensors files, and of mutated JSON files beside whole ones."""
    rng = random.Random(20)
    for number in itertools.count():
        whole, file = rng.choice(wholes)
        mine = Path(shutil.copytree(whole, folder / f"{number}"))
        described = sorted(mine.glob("*.json"))
        if number % 6 == 5 and described:
            text = described[0].read_text()
            described[0].write_text(mutated_safetensors.mutated_json(rng, text))
            name = described[0].name
        else:
            name, content = mutated_safetensors.mutated(rng, (mine / file).read_bytes(), number)
            (mine / file).write_bytes(content)
        size = sum(path.stat().st_size for path in mine.iterdir())
        yield _reading(name, number, mine, mine / file, size)


def torch_cases(wholes: list[bytes], folder: Path) -> Iterator[Case]:
    """Yields readings of mutated torch files."""
    rng = random.Random(21)
    for number in itertools.count():
        name, content = mutated_torch.mutated(rng, rng.choice(wholes), number)
        path = folder / f"{number}.pth"
        path.write_bytes(content)
        yield _reading(name, number, path, path, len(content))


def _reading(name: str, number: int, path: Path, file: Path, size: int) -> Case:
    """The command that reads a weight file or its folder: every third one imports it."""
    out = str(file.with_name(f"{number}-imported.safetensors"))
    command = ["import", str(path), out] if number % 3 == 0 else ["inspect", str(path)]
    return Case(f"{number} {name}", ["convert", *command], bytes=size, removed=str(file))


def corpus_cases(corpus: Path, folder: Path) -> Iterator[Case]:
    """Yields checks, statistics, sheets and starts of mutated corpora."""
    rng = random.Random(22)
    tokenizer = corpus.parent / "words.model"
    for number in itertools.count():
        mine = folder / f"{number}"
        name = f"{number} {mutated_corpora.mutated(rng, corpus, mine, number)}"
        size = sum(path.stat().st_size for path in mine.iterdir() if path.is_file())
        if number % 3 == 0:
            yield Case(name, [str(mine), str(tokenizer)], "tests.faults.mutated_corpora:start", size)
            continue
        what = ["validate", "--decode", "4"] if number % 3 == 1 else [rng.choice(["stats", "show"])]
        yield Case(name, ["data", *what, str(mine)], bytes=size, removed=str(mine / MANIFEST))


def dataset_cases(folder: Path) -> Iterator[Case]:
    """Yields readings of mutated datasets of the Hub."""
    rng = random.Random(24)
    for number in itertools.count():
        name = mutated_datasets.mutated(rng, folder / f"{number}", number)
        size = sum(path.stat().st_size for path in (folder / f"{number}").rglob("*.*"))
        yield Case(
            f"{number} {name}", [str(folder / f"{number}")], "tests.faults.mutated_datasets:read", size
        )


def word_cases(folder: Path, count: int) -> Iterator[Case]:
    """Yields odd settings, config files and command lines."""
    for number, (name, command) in enumerate(mutated_words.commands(random.Random(23), folder, count)):
        yield Case(f"{number} {name}", command)


def faults_of(outcome: Outcome, size: int) -> list[str]:
    """Returns what is wrong with the end of a case that read so many bytes."""
    lines = outcome.err.splitlines()
    # argparse says how the command is used, then the sentence.
    said = [line for line in lines if line.startswith("ivjax")]
    longest = max(map(len, said), default=0)
    wrong = {
        f"status {outcome.status}": outcome.status not in (0, 1, 2),
        "a traceback": "Traceback" in outcome.err,
        f"{len(said)} sentences": outcome.status == 2 and (len(said) != 1 or lines[-1:] != said),
        f"a sentence of {longest} letters": longest > _LONGEST_SENTENCE,
        "unprintable letters": not all(line.isprintable() for line in said),
        f"{outcome.grown >> 20} MB for a file of {size >> 20} MB": outcome.grown > 3 * size + _MEMORY,
        f"{outcome.seconds} s": outcome.seconds > CPU_SECONDS,
        f"it started {outcome.started}": bool(outcome.started),
    }
    return [what for what, is_so in wrong.items() if is_so]


def check(cases: Iterator[Case], count: int, scratch: Path) -> None:
    """Runs so many cases in child processes, and fails with all that went wrong."""
    failed = []
    for begin in range(0, count, _BATCH):
        # Made only now: all of them would fill a disk.
        batch = list(itertools.islice(cases, min(_BATCH, count - begin)))
        for case, outcome in zip(batch, run_cases(batch, scratch), strict=True):
            if wrong := faults_of(outcome, case.bytes):
                failed.append(f"{case.name}: {', '.join(wrong)}\n  {case.command}\n  {outcome.err[-1500:]}")
    assert not list(scratch.rglob(mutated_torch.MARK)), "a file ran code"
    assert not failed, f"{len(failed)} of {count} cases:\n" + "\n".join(failed)


@pytest.mark.slow
def test_500_mutated_safetensors(wholes, tmp_path):
    check(safetensors_cases(wholes, tmp_path), 500, tmp_path / "scratch")


@pytest.mark.slow
def test_500_mutated_torch_files(torch_wholes, tmp_path):
    check(torch_cases(torch_wholes, tmp_path), 500, tmp_path / "scratch")


@pytest.mark.slow
def test_300_mutated_corpora(corpus, tmp_path):
    check(corpus_cases(corpus, tmp_path), 300, tmp_path / "scratch")


@pytest.mark.slow
def test_300_mutated_datasets(tmp_path):
    check(dataset_cases(tmp_path), 300, tmp_path / "scratch")


@pytest.mark.slow
def test_300_odd_settings_and_commands(tmp_path):
    check(word_cases(tmp_path, 300), 300, tmp_path / "scratch")


@pytest.mark.parametrize("kind", ["safetensors", "torch", "corpora", "datasets", "words"])
def test_a_few_of_each_in_this_process(kind, request, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ivjax.train.distributed.join", lambda job: None)
    for name, family in FAMILIES.items():
        # One preset of each family: to trace all of them would take most of the time.
        first = dict(itertools.islice(family.presets.items(), 1))
        monkeypatch.setitem(FAMILIES, name, dataclasses.replace(family, presets=first))
    if kind == "words":
        cases = word_cases(tmp_path, FEW)
    elif kind == "datasets":
        cases = dataset_cases(tmp_path)
    else:
        fixture, make = {
            "safetensors": ("wholes", safetensors_cases),
            "torch": ("torch_wholes", torch_cases),
            "corpora": ("corpus", corpus_cases),
        }[kind]
        cases = make(request.getfixturevalue(fixture), tmp_path)
    for case in itertools.islice(cases, FEW):
        status = status_of(case)
        outcome = Outcome(case.name, status, err=capfd.readouterr().err)
        assert not faults_of(outcome, case.bytes), f"{case}: {outcome.err[-1500:]}"
    assert not (tmp_path / mutated_torch.MARK).exists()
