"""Fine-tuning in miniature: the encoder of stage1_tiny learns to name the colour of a clip's first shape.

Command   (the corpora and the run of stage1_tiny, see there)
          ivjax train finetune_tiny --workdir runs/finetune
          ivjax eval runs/finetune --suite classify --data shards/demo_held_out
Hardware  two CPU cores; two minutes
Expect    top1 71 % on the 160 held-out clips, 64 % from nothing (init_from=() init_fresh=()), chance 12 %;
          measured after 100 steps of stage1_synthetic, whose encoder has the same size, with
          --preprocessing suite (squares from the centre, which the run itself does not cut)
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(
            EncoderSize(
                width=64,
                depth=4,
                heads=4,
                mlp_width=256,
                pool_heads=4,
                pool_width=64,
                image=(56, 56),
                frames=4,
                layer_scale=0.1,
            ),
            classes=8,
        ),
        mixed=False,
        dropout=0.1,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        # Left and right have a meaning here, so nothing is mirrored.
        fields={"video": dp.Frames(dp.Spread(4)), "label": dp.Label()},
    ),
    batch=16,
    steps=300,
    schedule=ix.WarmupCosine(peak=2e-3, final=2e-5, warmup=30),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, layer_decay=0.8, clip=None),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=10),
    init_from=("encoder=runs/stage1#encoder",),
    init_fresh=("head", "fc_norm"),
)
