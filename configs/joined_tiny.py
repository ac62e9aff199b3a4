"""Cross-model attention in miniature: two tiny towers that name colours are joined, and both stay frozen.

Command   ivjax train finetune_videomae_tiny --workdir runs/masked_tiny            (see there)
          ivjax train finetune_uniformerv2_tiny --workdir runs/uniformerv2_tiny    (see there)
          ivjax train joined_tiny --workdir runs/joined
          ivjax eval runs/joined --suite classify --data shards/demo_held_out
Hardware  two CPU cores; half a minute
Expect    of 256 held-out clips 84 to 87 % over three seeds, where the first tower alone names 81 to 83 %, the
          second 88 to 89 %, and the mean of both scores 84 to 86 % (chance 12.5 %): docs/internvideo1.md

Before the first step the score is the mean of both towers' scores: the gates are closed.
"""

from ivjax import experiment as ix
from ivjax.configs.finetune_uniformerv2_tiny import STAGE as MULTIMODAL
from ivjax.configs.finetune_videomae_tiny import STAGE as MASKED
from ivjax.configs.finetune_videomae_tiny import experiment as masked
from ivjax.models.internvideo1 import JoinedSize
from ivjax.stages.internvideo1.joined_classification import JoinedClassification

experiment = ix.Experiment(
    stage=JoinedClassification(
        JoinedSize(
            masked=MASKED.classifier,
            multimodal=MULTIMODAL.classifier,
            places=(0, 1, 2),
            read=(0, 1, 2),
            heads=4,
            mlp_ratio=2,
        ),
        dropout=0.1,
    ),
    data=masked.data,
    batch=16,
    steps=200,
    schedule=ix.WarmupCosine(peak=1e-3, final=2e-5, warmup=20),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, clip=None),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=10),
    init_from=("masked=runs/masked_tiny", "multimodal=runs/uniformerv2_tiny"),
    init_fresh=("cross", "back", "mix"),
)
