"""InternVideo-Next, stage 2, large: see next_stage2_base.

Command   ivjax train next_stage2_large --workdir runs/next_stage2_large
Hardware  the originals used 128 GPUs, 8 clips each; never run here
Expect    nothing has been trained with this file yet
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.configs.next_stage2_base import CLIPS, EPOCHS, STAGE
from ivjax.configs.next_stage2_base import experiment as base
from ivjax.models.internvideo_next import NextSize

BATCH = 128 * 8

experiment = replace(
    base,
    stage=replace(
        STAGE,
        encoder=replace(NextSize.PRESETS["L14"], frames=32, table_frames=16),
        drop_path=0.2,
    ),
    batch=BATCH,
    steps=EPOCHS * (CLIPS // BATCH),
    schedule=ix.WarmupCosine(peak=1e-4 * BATCH / 256, final=1e-5 * BATCH / 256),
    init_from=("runs/next_stage1_large", "target=runs/next_stage1_large#encoder"),
)

variants = {
    "released": ("stage.target_drop_path=0.2", "stage.equal_counts=true"),
    "moving": ("stage.momentum=0.9999",),
}
