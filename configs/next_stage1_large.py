"""InternVideo-Next, stage 1, large: see next_stage1_base.

Command   ivjax train next_stage1_large --workdir runs/next_stage1_large
Hardware  the originals used 128 GPUs, 16 clips each; never run here
Expect    the originals report results of stage 2 alone

The originals' script of the large model passes the name of the base model; this is the large one. Its heads
predict the inputs of other layers of the teacher, 1.67 apart.
"""

from dataclasses import replace

from ivjax.configs.next_stage1_base import STAGE
from ivjax.configs.next_stage1_base import experiment as base
from ivjax.models.internvideo_next import NextSize

experiment = replace(
    base,
    stage=replace(
        STAGE,
        student=NextSize.PRESETS["L14"],
        teacher=replace(STAGE.teacher, interval=1.67),
        drop_path=0.2,
    ),
)
