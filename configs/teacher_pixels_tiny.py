"""The other teacher of stage1_tiny: a VideoMAE, which paints the three quarters of a clip that are hidden.

Command   the data commands of viclip_tiny's header, then
          ivjax train teacher_pixels_tiny --workdir runs/teacher_pixels
Hardware  two CPU cores; half a minute
Expect    loss 0.97 at step 10, 0.86 at step 120 (1 is what predicting the mean of each patch would give)
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.videomae import DecoderSize, VideoMaeSize
from ivjax.stages.masked_pixels import Mask, MaskedPixels

experiment = ix.Experiment(
    stage=MaskedPixels(
        encoder=VideoMaeSize(width=64, depth=3, heads=4, mlp_width=256, patch=14, image=(56, 56), frames=8),
        decoder=DecoderSize(width=48, depth=1, heads=4, mlp_width=192),
        mask=Mask(kind="tube", ratio=0.75),
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        fields={"video": dp.Frames(dp.Intervals(8))},
        workers=2,
    ),
    batch=24,
    steps=120,
    schedule=ix.WarmupCosine(peak=2e-3, final=4e-5, warmup=12),
    optimizer=ix.AdamW(betas=(0.9, 0.95), epsilon=1e-8, decay=0.05, clip=3.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=10),
)
