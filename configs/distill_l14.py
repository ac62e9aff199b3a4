"""InternVideo2-L/14 distilled from the 1B model of stage 2: six of its layers, from a fifth of the tokens.

Command   ivjax train distill_l14 --workdir runs/distill_l14
Hardware  the originals used 32 GPUs, 64 clips each; never run here
Expect    fine-tuned on K710, then K400, the originals report 90.4 % (8 frames)

The corpus is K-Mash-1.1M, whose exact make-up is not public: name your own shards in data.corpora. Clips of
Something-Something are a corpus of their own, because they are never mirrored. The originals' schedule is of
101 epochs. By oversight their teacher drops paths, which makes the targets random;
stage.clip_teacher.drop_path=0.25 does as they did.

The originals' script for this size builds the small model by mistake; this one is large.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead
from ivjax.stages.masked_reconstruction import ClipTeacher, Mask, MaskedReconstruction

CLIPS, EPOCHS, WARMUP, BATCH = 1_100_000, 101, 20, 2048
EPOCH = CLIPS // BATCH

experiment = ix.Experiment(
    stage=MaskedReconstruction(
        student=EncoderSize.PRESETS["L14"],
        clip=FeatureHeads(width=1408, layers=6, head="mlp"),
        pooled=PooledHead(width=768, head="mlp"),
        mae=None,
        clip_teacher=ClipTeacher(EncoderSize.PRESETS["1B"], interval=3.34),
        mask=Mask(kind="attention", ratio=0.8, per="clip"),
        drop_path=0.05,
    ),
    data=dp.Mixture(
        corpora=(
            dp.Corpus("shards/k_mash"),
            dp.Corpus("shards/ssv2", changes=("video.augment.flip=0",)),
        ),
        fields={"video": dp.Frames(dp.Segments(8), dp.TRAIN_STAGE1)},
    ),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.WarmupCosine(peak=1e-3 * BATCH / 256, final=1e-5 * BATCH / 256, warmup=WARMUP * EPOCH),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-6, decay=0.05, clip=5.0),
    mesh=ix.MeshShape(data=-1),
    init_from=("clip_teacher=internvideo2_stage2_1b.pt",),
    follows_batch=True,
)
