"""Stage 1 in the quickstart: from a quarter of a clip's tokens a student learns what two teachers see.

Command   ivjax quickstart        does it all; or, after the commands before it in docs/quickstart.md,
          ivjax train quick_stage1 --workdir runs/stage1
Hardware  two CPU cores; 40 s
Expect    held-out loss 0.5 to 0.8 at step 100, 0.18 to 0.21 at step 400, over three seeds
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.masked_reconstruction import ClipTeacher, MaeTeacher, Mask, MaskedReconstruction

experiment = ix.Experiment(
    stage=MaskedReconstruction(
        student=EncoderSize(
            width=64,
            depth=4,
            heads=4,
            mlp_width=256,
            pool_heads=4,
            pool_width=64,
            patch=7,
            image=(28, 28),
            frames=8,
            tubelet=2,
            layer_scale=1.0,
        ),
        clip=FeatureHeads(width=64, layers=2),
        pooled=PooledHead(width=64),
        mae=FeatureHeads(width=64, layers=1, head="mlp"),
        clip_teacher=ClipTeacher(
            EncoderSize(
                width=64,
                depth=3,
                heads=4,
                mlp_width=256,
                pool_heads=4,
                pool_width=64,
                patch=7,
                image=(28, 28),
                frames=8,
                tubelet=2,
                layer_scale=1.0,
            )
        ),
        mae_teacher=MaeTeacher(
            VideoMaeSize(width=64, depth=3, heads=4, mlp_width=256, patch=7, image=(28, 28), frames=8)
        ),
        mask=Mask(kind="attention", ratio=0.75),
        drop_path=0.0,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        fields={"video": dp.Frames(dp.Intervals(8))},
        cache_gib=1.0,
    ),
    batch=32,
    steps=400,
    schedule=ix.WarmupCosine(peak=2e-3, final=2e-5, warmup=32),
    optimizer=ix.AdamW(betas=(0.9, 0.98), decay=0.05, clip=3.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=200, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=8),
    init_from=("clip_teacher=runs/teacher_clip#vision", "mae_teacher=runs/teacher_pixels#encoder"),
)
