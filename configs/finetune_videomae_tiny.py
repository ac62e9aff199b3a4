"""The first tower of joined_tiny: the encoder of a tiny VideoMAE learns to name the colour of a clip's shape.

Command   (the corpora of viclip_tiny, see there)
          ivjax train teacher_pixels_tiny --workdir runs/teacher_pixels
          ivjax train finetune_videomae_tiny --workdir runs/masked_tiny
          ivjax eval runs/masked_tiny --suite classify --data shards/demo_held_out
Hardware  two CPU cores; 45 seconds
Expect    loss 2.1 at step 60, 1.0 on held-out clips at the end; of 256 of them 81 to 83 % over three seeds
          (chance 12.5 %)
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.classification import Classification, ClassifierSize

STAGE = Classification(
    ClassifierSize(
        VideoMaeSize(
            width=64,
            depth=3,
            heads=4,
            mlp_width=256,
            patch=14,
            image=(56, 56),
            frames=8,
            # Classifiers normalise the mean of the tokens instead.
            final_norm=False,
        ),
        classes=8,
    ),
    mixed=False,
    dropout=0.1,
)

experiment = ix.Experiment(
    stage=STAGE,
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        # Left and right have a meaning here, so nothing is mirrored.
        fields={"video": dp.Frames(dp.Spread(8)), "label": dp.Label()},
        workers=2,
    ),
    batch=16,
    steps=600,
    schedule=ix.WarmupCosine(peak=2e-3, final=2e-5, warmup=60),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, clip=None),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=10),
    init_from=("encoder=runs/teacher_pixels#encoder",),
    init_fresh=("head", "fc_norm"),
)
