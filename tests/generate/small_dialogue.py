"""A run folder of the smallest dialogue model, with random parameters."""

import dataclasses
from pathlib import Path

from ivjax.data_pipelines import data_options as dp
from ivjax.data_pipelines.fields import Turns
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.experiment.experiment import Experiment
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from tests.goldens import FOLDER
from tests.train import micro

SIZE = DIALOGUES["internvideo2_5_chat_8b_tiny"]
MODEL = FOLDER / "s3_spm_llama.model"


def dialogue_experiment(tokenizer: Path = MODEL) -> Experiment:
    """The experiment of such a run, with the tokenizer of a file."""
    seeing = dp.Seeing(dp.Intervals(8), clip_tokens=SIZE.visual_tokens(4))
    turns = Turns(dp.VideoChat2("mistral"), ChatTokenizer(str(tokenizer)), seeing)
    return dataclasses.replace(
        micro.experiment,
        stage=VideoDialogue(SIZE, (Bucket("main", 80, clips=5),)),
        data=dp.Dialogues((dp.Corpus("a"),), {"dialogue": turns}),
    )


def save_dialogue_run(folder: Path) -> None:
    """Leaves what a run of the experiment would, with random parameters."""
    micro.saved(folder, dialogue_experiment())
