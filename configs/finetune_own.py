"""A classifier for your own videos, on an encoder that was pretrained on them: docs/getting_started.md.

Command   ivjax data build videos/train shards/train
          ivjax data build videos/test shards/test --classes shards/train
          ivjax train teacher_pixels_tiny data.corpora.0.path=shards/train --workdir runs/pretrained
          ivjax train finetune_own stage.classifier.classes=3 --workdir runs/finetuned
          ivjax eval runs/finetuned --suite classify --data shards/test
Hardware  two CPU cores; three minutes for all of it
Expect    all of the 24 test videos that tests/test_getting_started.py draws, whose classes are three colours;
          measured with its 48 training videos
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.classification import Classification, ClassifierSize

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(
            VideoMaeSize(width=64, depth=3, heads=4, mlp_width=256, patch=14, image=(56, 56), frames=8),
            classes=2,
        ),
        mixed=False,
        dropout=0.1,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/train"),),
        eval_corpora=(dp.Corpus("shards/test"),),
        # Few videos are soon known by heart, so each time another part of the picture is shown. Nothing is
        # mirrored: left and right may tell your classes apart.
        fields={"video": dp.Frames(dp.Spread(8), replace(dp.TRAIN_STAGE2, flip=0.0)), "label": dp.Label()},
        workers=2,
    ),
    batch=16,
    steps=120,
    schedule=ix.WarmupCosine(peak=2e-3, final=2e-5, warmup=12),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, clip=None),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=60, keep_last=1),
    log=ix.Logging(every=10),
    eval_loss=ix.EvalLoss(every=60, batches=2),
    init_from=("encoder=runs/pretrained#encoder",),
    init_fresh=("head", "fc_norm"),
)
