"""Progressive recipes of dialogue: their phases are the stages that can run alone, and can be resumed."""

import dataclasses
import shutil
from pathlib import Path

import jax
import pytest

from ivjax.experiment import load_experiment
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.run_options import Phase
from ivjax.train.loop import train
from ivjax.train.phases import phases_of
from tests.data_pipelines.dialogue.talks import build_talks
from tests.train import talks_run
from tests.train.micro import losses

# Each recipe's phases, and the variants that run one of them alone ("": the config itself).
RECIPES = {
    "dialogue_videochat2_vicuna": {"stage2": "stage2", "stage3": "", "hd": "hd"},
    "dialogue_videochat2_mistral": {"stage2": "stage2", "stage3": "", "hd": "hd"},
    "dialogue_videochat2_phi3": {"stage2": "stage2", "stage3": "", "hd": "hd"},
    "dialogue_videochat_flash": {"connector": "connector", "short": "short", "long": "", "high": "high"},
}
ONE_RUN = {"phases": (), "init_from": (), "init_fresh": ()}


@pytest.mark.parametrize("name", RECIPES)
def test_phases_are_the_stages_that_can_be_run_alone(name):
    """But for what they start from: the phase before, or a folder of its own."""
    phases = phases_of(load_experiment(f"{name}:progressive"), Path("run"))
    assert [phase.folder.name.partition("_")[2] for phase in phases] == list(RECIPES[name])
    for number, (phase, variant) in enumerate(zip(phases, RECIPES[name].values(), strict=True)):
        alone = load_experiment(f"{name}:{variant}" if variant else name)
        plain = [dataclasses.replace(found, **ONE_RUN) for found in (phase.experiment, alone)]
        assert plain[0] == plain[1]
        phase.experiment.stage.check()
        before = [str(phases[number - 1].folder)] if number else []
        assert list(phase.experiment.init_from[-1:]) == before or not number


# As the recipes: short videos, then long ones, with a part frozen that the phase before has trained.
PHASED = dataclasses.replace(
    talks_run.experiment,
    stage=dataclasses.replace(talks_run.STAGE, buckets=talks_run.STAGE.buckets[1:]),
    phases=(
        Phase("short", 3, ("stage.buckets=(Bucket('short',256,clips=4),)",)),
        Phase("long", 4, ("trains=(Trains('vision',0.2),Trains('language',0.0))", "schedule.peak=1e-3")),
    ),
    checkpoint=dataclasses.replace(talks_run.experiment.checkpoint, every=2),
)


def run(folder: Path, experiment: Experiment) -> list[str]:
    said: list[str] = []
    assert train(experiment, folder, said.append, jax.devices()[:1]) == 0
    return said


@pytest.mark.slow
def test_stopped_in_the_second_phase_of_dialogue_it_goes_on_with_the_losses_of_one_run(tmp_path, monkeypatch):
    corpus = build_talks(tmp_path / "talks")[0]
    corpora = (dataclasses.replace(PHASED.data.corpora[0], path=str(corpus)),)
    experiment = dataclasses.replace(PHASED, data=dataclasses.replace(PHASED.data, corpora=corpora))
    whole, stopped, first = tmp_path / "whole", tmp_path / "stopped", "phases/1_short"
    run(whole, experiment)
    shutil.copytree(whole / first, stopped / first)
    with monkeypatch.context() as patched:
        patched.setattr("ivjax.train.checkpoint.Checkpoints.stop_requested", lambda _, step: step == 1)
        assert "stopped by request after step 1; the same command continues" in run(stopped, experiment)
    assert "phase 1 of 2, short: finished before" in run(stopped, experiment)
    second = "phases/2_long"
    assert losses(stopped / second) == losses(whole / second)
    assert len(losses(whole / first)) == 3 and len(losses(whole / second)) == 4
