"""A tiny UniFormerV2 learns to name the colour of a clip's shape; the second tower of joined_tiny.

Command   (the corpora of viclip_tiny, see there)
          ivjax train finetune_uniformerv2_tiny --workdir runs/uniformerv2_tiny
          ivjax train finetune_uniformerv2_tiny:local --workdir runs/uniformerv2_local_tiny
          ivjax eval runs/uniformerv2_tiny --suite classify --data shards/demo_held_out
Hardware  two CPU cores; one minute
Expect    loss 2.1 at step 60, 0.7 to 0.9 on held-out clips at the end; of 256 of them 88 to 89 % over three
          seeds (chance 12.5 %), and 81 % with `local`

It starts from nothing, where the released models start from CLIP, and with wider kernels: with those of the
originals two of three seeds named little more than a third of the colours. `local` has local modules between
neighbouring times, whose norms keep running statistics, and half of the times.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.uniformerv2 import UniFormerV2Size
from ivjax.stages.classification import Classification, ClassifierSize

STAGE = Classification(
    ClassifierSize(
        UniFormerV2Size(
            width=64,
            depth=3,
            heads=4,
            returned=(1, 2),
            global_heads=4,
            global_mlp=128,
            patch=14,
            image=(56, 56),
            frames=4,
            dropout=0.1,
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
        fields={"video": dp.Frames(dp.Spread(4)), "label": dp.Label()},
        workers=2,
    ),
    batch=16,
    steps=600,
    schedule=ix.WarmupCosine(peak=1e-3, final=1e-5, warmup=60),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, clip=None),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=10),
    starts=(ix.Starts("encoder/*kernel", 4.0),),
)

variants = {
    "local": (
        "stage.classifier.encoder.frames=8",
        "stage.classifier.encoder.tubelet=2",
        "stage.classifier.encoder.local=2",
        "stage.classifier.encoder.local_width=32",
        "data.fields.video.rule.frames=8",
    ),
}
