"""InternVideo-Next, stage 2, base: features of the frozen encoder of stage 1, where blocks hide a clip.

Command   ivjax train next_stage2_base --workdir runs/next_stage2_base
          ivjax train next_stage2_base:released --workdir runs/next_stage2_released
Hardware  the originals used 128 GPUs, 14 clips each; never run here
Expect    nothing has been trained with this file yet

Clips have 32 frames, and the position tables of 16 are interpolated at each step. It starts from the run of
stage 1, or from a file of the originals' training. `released` does two things as the scripts do: the target
drops paths, by oversight, and all clips of a batch see as many patches as the one that sees the fewest.
`moving` lets the target follow the encoder, which the originals can but do not: their --mom 1.0 freezes it.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo_next import NextSize
from ivjax.stages.internvideo_next.latent_prediction import LatentPrediction

CLIPS, EPOCHS, BATCH = 1_100_000, 101, 128 * 14
EPOCH = CLIPS // BATCH

STAGE = LatentPrediction(replace(NextSize.PRESETS["B14"], frames=32, table_frames=16), drop_path=0.1)

experiment = ix.Experiment(
    stage=STAGE,
    data=dp.Mixture(
        corpora=(
            dp.Corpus("shards/k_mash"),
            dp.Corpus("shards/ssv2", changes=("video.augment.flip=0",)),
        ),
        fields={"video": dp.Frames(dp.Segments(32), dp.TRAIN_STAGE1)},
    ),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.WarmupCosine(peak=1e-4 * BATCH / 256, final=1e-5 * BATCH / 256),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-6, decay=0.05, clip=5.0),
    mesh=ix.MeshShape(data=-1),
    remat="full",
    init_from=("runs/next_stage1_base", "target=runs/next_stage1_base#encoder"),
    init_fresh=("latent_decoder",),
    follows_batch=True,
)

variants = {
    "released": ("stage.target_drop_path=0.1", "stage.equal_counts=true"),
    "moving": ("stage.momentum=0.9999",),
}
