"""An experiment of dialogue on stored conversations, for runs that are killed or split over processes.

A config like any other: its corpus is given as `data.corpora.0.path`.
"""

import dataclasses

from ivjax.data_pipelines.dialogue.seeing import Seeing
from ivjax.data_pipelines.dialogue.videochat2 import VideoChat2
from ivjax.data_pipelines.fields import Turns
from ivjax.data_pipelines.load.mixture import Corpus, Dialogues
from ivjax.data_pipelines.sampling import Intervals
from ivjax.data_pipelines.tokenizers.chat_tokenizer import ChatTokenizer
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.run_options import Checkpointing, Logging
from ivjax.experiment.schedules import WarmupCosine
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.video_dialogue import Bucket, VideoDialogue
from tests.goldens import FOLDER

_TOKENIZER = ChatTokenizer(str(FOLDER / "s3_spm_llama.model"))
_SIZE = DIALOGUES["internvideo2_5_chat_8b_tiny"]
# Nothing is merged: in pictures of bars many tokens are alike, and rounding would decide between them.
_BRIDGE = dataclasses.replace(_SIZE.bridge, frame_tokens=None, image_tokens=None)
_LANGUAGE = dataclasses.replace(_SIZE.language, vocabulary=_TOKENIZER.vocabulary_size)
STAGE = VideoDialogue(
    dataclasses.replace(_SIZE, bridge=_BRIDGE, language=_LANGUAGE),
    buckets=(Bucket("short", 192, clips=4), Bucket("long", 448, clips=8)),
    weighting="square_root",
)

experiment = Experiment(
    stage=STAGE,
    data=Dialogues(
        (Corpus("talks"),),
        {
            "dialogue": Turns(
                VideoChat2("vicuna"), _TOKENIZER, Seeing(Intervals(4), STAGE.clip_tokens), shuffle=True
            )
        },
        workers=0,
    ),
    batch=4,
    steps=8,
    schedule=WarmupCosine(peak=2e-3, warmup=2),
    dtype="float32",
    checkpoint=Checkpointing(every=3),
    log=Logging(every=1),
)
