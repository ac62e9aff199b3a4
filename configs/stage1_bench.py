"""The stage-1 student of the CPU benchmark: 15 M parameters, 417 visible tokens of eight 224-pixel frames.

Command   ivjax bench step --config stage1_bench
Hardware  two CPU cores
Expect    forward + backward at 0.68 to 0.76 of the matmul rate of the same run (layers unrolled: a scan
          costs a CPU the copies of its stacked buffers)
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead
from ivjax.stages.masked_reconstruction import Mask, MaskedReconstruction

experiment = ix.Experiment(
    stage=MaskedReconstruction(
        student=EncoderSize(width=384, depth=6, heads=6, mlp_width=1536),
        clip=FeatureHeads(width=384, layers=1),
        pooled=PooledHead(width=768),
        mae=FeatureHeads(width=384, layers=1, head="mlp"),
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
