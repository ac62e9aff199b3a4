r"""InternVideo-Next's stage 1 in miniature, taught by the image tower of teacher_clip_tiny.

Command   the data commands of viclip_tiny's header, then
          ivjax train teacher_clip_tiny --workdir runs/teacher_clip
          ivjax train next_stage1_tiny --workdir runs/next_stage1
          ivjax eval runs/next_stage1 --suite probe --attribute colour --train shards/demo \
                --data shards/demo_held_out
Hardware  two CPU cores; one minute
Expect    over three seeds a linear probe of what the encoder pools names 82 to 87 % of the held-out colours
          (30 % by a random encoder, chance 12.5 %) and 16 to 19 % of the motions (5 %, chance 10 %). Of the
          loss, 1.2 to 2.5 on held-out clips, most is the diffusion's, which differs by the times it draws
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead
from ivjax.models.internvideo_next import DiffusionSize, NextSize
from ivjax.models.modernbert import ModernBertSize
from ivjax.stages.internvideo_next.masked_diffusion import LayerInputTeacher, MaskedDiffusion

STAGE = MaskedDiffusion(
    student=NextSize(
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
    # It reads frame by frame, at the size of the student's.
    teacher=LayerInputTeacher(
        EncoderSize(
            width=64,
            depth=3,
            heads=4,
            mlp_width=256,
            pool_heads=4,
            pool_width=64,
            image=(56, 56),
            frames=1,
            layer_scale=0.3,
        )
    ),
    clip=FeatureHeads(width=64, layers=2, head="mlp"),
    pooled=PooledHead(width=64, head="mlp"),
    predictor=ModernBertSize(width=64, depth=2, heads=4, mlp_width=96, first=2, reach=16),
    diffusion=DiffusionSize(width=128, depth=2, time_codes=64),
    drop_path=0.0,
)

experiment = ix.Experiment(
    stage=STAGE,
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        fields={"video": dp.Frames(dp.Intervals(4))},
        workers=2,
    ),
    batch=16,
    steps=300,
    schedule=ix.WarmupCosine(peak=2e-3, final=2e-5, warmup=30),
    optimizer=ix.AdamW(betas=(0.9, 0.98), decay=0.05, clip=5.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=150, batches=4),
    init_from=("teacher=runs/teacher_clip#vision",),
)
