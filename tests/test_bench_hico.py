"""`ivjax bench hico`: what is compared, what is printed, and what is refused."""

import json

import jax
import numpy as np
import pytest

from ivjax.bench import hico_speed
from ivjax.bench.hico_forms import pooled, step_by_step
from ivjax.bench.hico_speed import FORMS, ClipSize, HicoBench, bench_hico
from ivjax.cli import main
from ivjax.ops import hico

SIZE = ClipSize(2, 12, 16, 2)  # one step to a target of 6


def test_the_form_of_the_originals_gives_what_the_op_gives():
    x = jax.random.normal(jax.random.key(0), (2, 31, 16))
    mine, op = jax.jit(lambda x: (step_by_step(x, 7, 2), hico.merge(x, 7, 2).tokens))(x)
    np.testing.assert_allclose(mine, op, rtol=1e-4, atol=1e-5)


def test_pooling_takes_means_of_neighbours():
    x = np.arange(12, dtype="f").reshape(1, 6, 2)
    np.testing.assert_allclose(pooled(x, 3, 1), [[[1, 2], [5, 6], [9, 10]]])


def test_the_command_prints_every_form_in_both_passes_and_ratios(capsys):
    command = ["bench", "hico", "--sizes", "2,12,16,2", "--target", "6", "--runs", "1"]
    assert main(command) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    measured, ratios = ([line for line in lines if key in line] for key in ("form", "ratio"))
    passes = [(dtype, done) for dtype in ("float32", "bfloat16") for done in ("forward", "forward_backward")]
    found = [(line["dtype"], line["pass"], line["form"]) for line in measured]
    assert found == [(*each, form) for each in passes for form in FORMS]
    for line in measured:
        assert [line[key] for key in SIZE._fields] == list(SIZE) and line["target"] == 6
        assert line["ms"] > 0
    names = ["op / step_by_step", "op / scores", "op / pooling", "op / (4 scores + pooling)"]
    assert [line["ratio"] for line in ratios] == names * len(passes)
    ms = {line["form"]: line["ms"] for line in measured[:4]}
    wanted = [ms["op"] / ms["step_by_step"], ms["op"] / ms["scores"], ms["op"] / ms["pooling"]]
    wanted.append(ms["op"] / (4 * ms["scores"] + ms["pooling"]))
    np.testing.assert_allclose([line["time"] for line in ratios[:4]], wanted, rtol=0.02)


def test_forms_that_do_not_fit_are_only_compiled(monkeypatch):
    class Program:
        def __init__(self, form):
            self.form = form

        def lower(self, tokens):
            return self

        def compile(self):
            return self

        def memory_analysis(self):
            temporary = (3 if self.form is step_by_step else 1) * 2**30
            sizes = {"argument_size_in_bytes": 2**29, "output_size_in_bytes": 2**29}
            return type("Memory", (), {"temp_size_in_bytes": temporary, **sizes})

    monkeypatch.setattr(hico_speed, "_program", lambda form, *_: Program(form))
    monkeypatch.setattr(hico_speed, "in_turn", lambda steps, *_: [0.5] * len(steps))
    lines = [json.loads(line) for line in bench_hico(HicoBench((SIZE,), 6, ("float32",), limit_gib=2.5))]
    assert [line["ms"] for line in lines[:4]] == [500.0, None, 500.0, 500.0]
    assert lines[1]["not_run"] == "4.0 GiB exceed the limit of 2.5 GiB (--limit-gib)"
    assert [line["ratio"] for line in lines[4:7]] == [
        "op / scores",
        "op / pooling",
        "op / (4 scores + pooling)",
    ]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--sizes", "2,24,16"], "--sizes 2,24,16: a size is CLIPS,TOKENS,WIDTH,HEADS"),
        (["--sizes", "2,24,x,2"], "--sizes 2,24,x,2: a size is CLIPS,TOKENS,WIDTH,HEADS"),
        (["--sizes", "2,24,16,3"], "--sizes 2,24,16,3: 16 channels do not divide into 3 heads"),
        (["--sizes", "2,24,16,2", "--target", "25"], "--target 25 must be 1 to 24, the tokens of a clip"),
        (["--runs", "0"], "--runs must be above 0, got 0"),
        (["--seconds", "nan"], "--seconds must be above 0, got nan"),
        (["--limit-gib", "-1"], "--limit-gib must be above 0, got -1"),
    ],
)
def test_impossible_measurements_are_an_error(words, message, capsys):
    assert main(["bench", "hico", *words]) != 0
    assert message in capsys.readouterr().err
