"""The pixel teacher of the quickstart: a VideoMAE, which paints the three quarters of a clip that are hidden.

Command   the data commands of docs/quickstart.md, then
          ivjax train quick_teacher_pixels --workdir runs/teacher_pixels
Hardware  two CPU cores; half a minute
Expect    held-out loss 0.017 to 0.022 at step 50, 0.009 to 0.011 at step 200, over three seeds
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.videomae import DecoderSize, VideoMaeSize
from ivjax.stages.masked_pixels import Mask, MaskedPixels

experiment = ix.Experiment(
    stage=MaskedPixels(
        encoder=VideoMaeSize(width=64, depth=3, heads=4, mlp_width=256, patch=7, image=(28, 28), frames=8),
        decoder=DecoderSize(width=48, depth=1, heads=4, mlp_width=192),
        mask=Mask(kind="tube", ratio=0.75),
        # Plain backgrounds, once normalised, are noise that nobody can paint.
        normalised=False,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        fields={"video": dp.Frames(dp.Intervals(8))},
        cache_gib=1.0,
    ),
    batch=32,
    steps=200,
    schedule=ix.WarmupCosine(peak=2e-3, final=4e-5, warmup=20),
    optimizer=ix.AdamW(betas=(0.9, 0.95), epsilon=1e-8, decay=0.05, clip=1.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=200, keep_last=1),
    log=ix.Logging(every=10),
    eval_loss=ix.EvalLoss(every=50, batches=8),
)
