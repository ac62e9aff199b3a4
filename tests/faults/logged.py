"""A small run over a real corpus, which writes down what it is fed: a digest of each batch, to FED."""

import hashlib
import json
import os
from dataclasses import replace

import numpy as np

from ivjax import experiment as ix
from ivjax.configs.teacher_pixels_tiny import experiment as teacher
from ivjax.data_pipelines import data_options as dp
from ivjax.models.videomae import DecoderSize, VideoMaeSize
from ivjax.train.feed import Fed, Feed

experiment = replace(
    teacher,
    stage=replace(
        teacher.stage,
        encoder=VideoMaeSize(width=32, depth=1, heads=4, mlp_width=64, patch=14, image=(56, 56), frames=4),
        decoder=DecoderSize(width=32, depth=1, heads=4, mlp_width=64),
    ),
    data=dp.Mixture(corpora=(dp.Corpus("shards"),), fields={"video": dp.Frames(dp.Intervals(4))}, workers=1),
    batch=8,
    steps=60,
    checkpoint=ix.Checkpointing(every=4, keep_last=2),
    log=ix.Logging(every=1),
)

if log := os.environ.get("FED"):
    feed_next = Feed.__next__

    def logged(self: Feed) -> Fed:
        """The next batch, after its digest has been written."""
        batch = feed_next(self)
        content = b"".join(np.asarray(batch.batch[name]).tobytes() for name in sorted(batch.batch))
        line = {"first": batch.first, "digest": hashlib.sha256(content).hexdigest()}
        with open(log, "a") as file:
            file.write(f"{json.dumps(line)}\n")
        return batch

    Feed.__next__ = logged
