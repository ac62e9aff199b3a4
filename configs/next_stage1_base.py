"""InternVideo-Next, stage 1, base: a teacher's features where the student sees, pixels where it does not.

Command   ivjax train next_stage1_base --workdir runs/next_stage1_base
Hardware  the originals used 128 GPUs, 16 clips each; never run here
Expect    the originals report results of stage 2 alone

The teacher is SigLIP2-1B of 256 pixels, the predictor starts from ModernBERT-large; both are read from
folders of the Hub. The corpus is not public: the number of clips is that of K-Mash-1.1M, and the final
learning rate that of InternVideo2's stage 1, which the scripts do not say. Clips of Something-Something are a
corpus of their own, because they are never mirrored. What the scripts get wrong is listed in docs/next.md.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo_next import NextSize
from ivjax.models.siglip import SiglipSize
from ivjax.stages.internvideo_next.masked_diffusion import LayerInputTeacher, MaskedDiffusion

CLIPS, EPOCHS, WARMUP, BATCH = 1_100_000, 62, 7, 128 * 16
EPOCH = CLIPS // BATCH

STAGE = MaskedDiffusion(
    student=NextSize.PRESETS["B14"],
    teacher=LayerInputTeacher(SiglipSize.PRESETS["giant16_256"], interval=3.33),
    drop_path=0.1,
)

experiment = ix.Experiment(
    stage=STAGE,
    data=dp.Mixture(
        corpora=(
            dp.Corpus("shards/k_mash"),
            dp.Corpus("shards/ssv2", changes=("video.augment.flip=0",)),
        ),
        fields={"video": dp.Frames(dp.Segments(16), dp.TRAIN_STAGE1)},
    ),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.WarmupCosine(peak=1e-3 * BATCH / 256, final=1e-5 * BATCH / 256, warmup=WARMUP * EPOCH),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-6, decay=0.05, clip=5.0),
    mesh=ix.MeshShape(data=-1),
    remat="full",
    init_from=("teacher=siglip2-giant-opt-patch16-256", "predictor=ModernBERT-large"),
    follows_batch=True,
)
