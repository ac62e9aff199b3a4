r"""Linear probe of InternVideo2-6B on Something-Something V2, whose head also sees the mean of each frame.

Command   ivjax train probe_linear_6b_ssv2 --workdir runs/linear_6b_ssv2
          ivjax train probe_linear_6b_ssv2:stage2 --workdir runs/linear_6b_ssv2_stage2
          ivjax eval runs/linear_6b_ssv2 --suite classify --data ssv2/test.csv --videos ssv2 --crops 3 \
                --sampling ssv2
Hardware  the originals used 16 GPUs, 64 clips each; never run here
Expect    the originals' table of models has no figure for it; nothing has been trained with this file yet

Left and right have a meaning here, so nothing is mirrored. Class token and mean patches of the 16 frames go
through one linear layer, and beside the pooled feature into the head. `stage2` probes the trunk of stage 2.
The weights of the pretrained 6B student were not released.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize, Probe

CLIPS, BATCH = 168_913, 16 * 64
EPOCH = CLIPS // BATCH

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(replace(EncoderSize.PRESETS["6B"], frames=16), classes=174, merge="cls_avgN_proj"),
        probe=Probe(),
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/ssv2"),),
        fields={
            "video": dp.Frames(dp.Ticks(16, short="repeat_first"), replace(dp.PROBE, flip=0.0)),
            "label": dp.Label(),
        },
        mix=dp.Mix(classes=174, group=64),
    ),
    batch=BATCH,
    steps=20 * EPOCH,
    schedule=ix.WarmupCosine(peak=4e-4, warmup=4 * EPOCH, start=4e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=16),
    remat="none",
    init_from=("6B_pt.pth",),
    init_fresh=("head", "fc_norm", "down", "down_norm"),
    follows_batch=True,
)

variants = {"stage2": ("init_from=('encoder=6B_pt_stage2.pth',)",)}
