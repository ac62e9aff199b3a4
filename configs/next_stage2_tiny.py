r"""InternVideo-Next's stage 2 in miniature: twice the frames of stage 1, whose encoder is the target.

Command   ivjax train next_stage1_tiny --workdir runs/next_stage1    (see there)
          ivjax train next_stage2_tiny --workdir runs/next_stage2
          ivjax eval runs/next_stage2 --suite probe --attribute colour --train shards/demo \
                --data shards/demo_held_out
Hardware  two CPU cores; three minutes
Expect    both terms from 1.3 at step 40 to 0.2 on held-out clips (2 - 2 cos). The mean of the tokens names
          35 to 40 % of the held-out colours over three seeds (30 % by a random encoder), after stage 1 44 to
          47 %: in miniature the second stage learns to predict the first one's features, and makes none that
          are better
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.configs.next_stage1_tiny import STAGE as STAGE1
from ivjax.data_pipelines import data_options as dp
from ivjax.stages.internvideo_next.latent_prediction import BlockMask, LatentPrediction

experiment = ix.Experiment(
    stage=LatentPrediction(
        replace(STAGE1.student, frames=8, table_frames=4),
        STAGE1.predictor,
        masks=(BlockMask(4, (0.15, 0.15)), BlockMask(2, (0.6, 0.6))),
        most=48,
        drop_path=0.0,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        fields={"video": dp.Frames(dp.Intervals(8))},
        workers=2,
    ),
    batch=16,
    steps=600,
    schedule=ix.WarmupCosine(peak=1e-3, final=2e-5, warmup=20),
    optimizer=ix.AdamW(betas=(0.9, 0.98), decay=0.05, clip=5.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=4),
    init_from=("runs/next_stage1", "target=runs/next_stage1#encoder"),
    init_fresh=("latent_decoder",),
)

variants = {"moving": ("stage.momentum=0.99",)}
