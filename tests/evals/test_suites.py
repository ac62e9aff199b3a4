"""A suite's fields are its flags: in one place, for any suite, and with clear errors."""

import argparse
import json
import re
import shlex
from dataclasses import dataclass

import numpy as np
import pytest

from ivjax.cli import eval as command
from ivjax.errors import UserError
from ivjax.evals.suites import (
    SUITES,
    EvalSuite,
    LinearProbe,
    MultipleChoice,
    NeedleSearch,
    Retrieval,
    ViewClassification,
)
from ivjax.evals.suites.fields import option, options_of
from ivjax.evals.suites.flags import add_suite_flags, suite_asked
from ivjax.evals.suites.suite import PAIRS, ClipSuite
from ivjax.experiment.overrides import apply_overrides
from ivjax.experiment.run_options import EvalRun
from tests.evals.fakes import TableEncoder, annotated, setting
from tests.train.processes import ROOT


@dataclass(frozen=True, kw_only=True)
class Alignment(ClipSuite):
    """A suite in one file: the mean cosine of each clip and its first caption."""

    name = "alignment"
    about = "mean cosine of clips and captions"
    READER = PAIRS
    has_tokenizer = True

    scale: float = option(1.0, "factor of the cosines", metavar="S")

    def score(self, setting):
        """Returns the mean cosine."""
        from ivjax.evals.items import open_items
        from ivjax.evals.result import Result, facts_of
        from ivjax.evals.vectors import embed, embed_texts

        items = open_items(setting.data)
        embedded = embed(setting, items, len(items))
        texts = embed_texts(setting.encoder, [item.captions[0] for item in embedded.items])
        cosine = self.scale * float((embedded.vectors[:, 0] * texts).sum(-1).mean())
        return Result(self.name, facts_of(setting, len(items)), {"cosine": cosine}, embedded.unscored)


def asked(*argv):
    parser = argparse.ArgumentParser()
    add_suite_flags(parser)
    return suite_asked(parser.parse_args(argv))


def test_flags_make_the_suite_that_a_config_would_write():
    assert asked("--suite", "retrieval") == Retrieval()
    argv = ("--suite", "retrieval", "--protocol", "didemo", "--dsl", "--dsl-scale", "20", "--limit", "9")
    assert asked(*argv) == Retrieval(protocol="didemo", dsl=True, dsl_scale=20.0, limit=9)
    prompts = asked("--suite", "zeroshot", "--attribute", "a", "--prompt", "a {}", "--prompt", "{}").prompts
    assert prompts == ("a {}", "{}")
    probe = asked("--suite", "probe", "--train", "t", "--features", "mean", "--baseline", "none")
    assert probe == LinearProbe(train="t", features="mean", baseline="none")
    assert asked("--suite", "classify", "--labels", "several").labels == "several"
    assert asked("--suite", "needle", "--length", "32", "--length", "64") == NeedleSearch(length=(32, 64))


def test_protocols_belong_to_one_suite_and_the_error_names_it():
    argv = ("--protocol", "msrvtt_mc", "--temperature", "0.5")
    assert asked("--suite", "choice", *argv) == MultipleChoice(protocol="msrvtt_mc", temperature=0.5)
    with pytest.raises(UserError, match="'msrvtt_mc' is not one of ranking; .*, or the suite choice$"):
        asked("--suite", "retrieval", "--protocol", "msrvtt_mc")
    with pytest.raises(UserError, match="'msrvtt' is not one of choice; .*, or the suite retrieval$"):
        MultipleChoice(protocol="msrvtt")


def test_a_new_suite_is_a_class_and_an_entry(monkeypatch, tmp_path):
    monkeypatch.setitem(SUITES, Alignment.name, Alignment)
    suite = asked("--suite", "alignment", "--scale", "2", "--clips", "1")
    assert suite == Alignment(scale=2.0)
    with pytest.raises(UserError, match="the suite retrieval has no --scale; alignment has it"):
        asked("--suite", "retrieval", "--scale", "2")
    path = annotated(tmp_path, [{"video": f"{n}.mp4", "caption": "x"} for n in range(2)])
    encoder = TableEncoder(np.eye(2), {"x": [1, 0]})
    result = suite.score(setting(encoder, path))
    assert result.metrics == {"cosine": 1.0} and json.loads(result.json())["suite"] == "alignment"


def test_flags_of_one_name_mean_the_same_in_every_suite():
    seen = {}
    for suite in SUITES.values():
        for field in options_of(suite):
            meaning = (field.name, field.kind, field.choices, field.repeated)
            assert seen.setdefault(field.flag, meaning) == meaning


def test_every_flag_is_explained_and_shows_who_has_it():
    parser = argparse.ArgumentParser()
    add_suite_flags(parser)
    told = parser.format_help()
    assert all(suite.about.split(":")[0] in " ".join(told.split()) for suite in SUITES.values())
    groups = [line.rstrip(":") for line in told.splitlines() if line.endswith(":")]
    assert {"all suites", "retrieval, choice, mcqa, grounding", "retrieval, zeroshot", "classify"} <= set(
        groups
    )


def test_every_eval_command_of_the_docs_and_configs_asks_for_a_suite():
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("configs/*.py"), ROOT / "README.md"]
    text = "\n".join(page.read_text().replace("\\\n", " ") for page in pages)
    found = re.findall(r"^\s*ivjax (eval [^#\n]*)", text, re.MULTILINE)
    assert len(found) > 10
    for line in found:
        assert isinstance(suite_asked(parser.parse_args(shlex.split(line))), EvalSuite), line


def test_overrides_reach_the_options_of_a_suite_in_a_config():
    planned = EvalRun(ViewClassification(clips=4), every=100, data="shards/test")
    assert apply_overrides(planned, ["suite.crops=3", "suite.limit=50"]).suite == ViewClassification(
        clips=4, crops=3, limit=50
    )
    with pytest.raises(UserError, match="sampling"):
        apply_overrides(planned, ["suite.sampling=spread"])


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"sampling": "spread"}, "sampling must be one of kinetics, ssv2, ucf, got 'spread'"),
        ({"batch": 0}, "batch must be 1 or more, got 0"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16, got 'float16'"),
    ],
)
def test_values_that_a_config_may_not_give_are_named(options, reason):
    with pytest.raises(UserError, match=reason):
        ViewClassification(**options)
