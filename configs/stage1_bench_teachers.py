"""The student of stage1_bench beside two teachers of its own size: what they cost, and what their targets do.

Command   ivjax bench step --config stage1_bench_teachers --variant stage.targets=all
              --variant "stage.clip_teacher=none stage.mae_teacher=none"
Hardware  two CPU cores
Expect    in docs/benchmarks.md: targets kept at the visible tokens only, at all tokens, and no teacher
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.masked_reconstruction import ClipTeacher, MaeTeacher, Mask, MaskedReconstruction

experiment = ix.Experiment(
    stage=MaskedReconstruction(
        student=EncoderSize(width=384, depth=6, heads=6, mlp_width=1536),
        clip=FeatureHeads(width=384, layers=6),
        pooled=PooledHead(width=768),
        mae=FeatureHeads(width=384, layers=4, head="mlp"),
        clip_teacher=ClipTeacher(EncoderSize(width=384, depth=6, heads=6, mlp_width=1536, frames=1)),
        mae_teacher=MaeTeacher(VideoMaeSize(width=384, depth=6, heads=6, mlp_width=1536, patch=14)),
        mask=Mask(kind="attention", ratio=0.8),
        drop_path=0.0,
    ),
    data=dp.SyntheticClips(clips=256),
    batch=2,
    steps=100,
    schedule=ix.WarmupCosine(peak=1e-3, warmup=10),
    dtype="float32",
    scan_layers=False,
)
