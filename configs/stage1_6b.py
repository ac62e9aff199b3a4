"""Stage 1 of InternVideo2-6B: what two frozen teachers see of a clip, from a fifth of its tokens.

Command   ivjax train stage1_6b --workdir runs/stage1_6b
Hardware  the originals used 256 GPUs, 8 clips each; never run here
Expect    fine-tuned on K710, then K400, the originals report 91.9 % (8 frames)

The teachers are InternVL-C's image tower and VideoMAEv2-g, from the files that their authors published. The
corpus is K-Mash-2M, whose exact make-up is not public: name your own shards in data.corpora. Clips of
Something-Something are a corpus of their own, because they are never mirrored. The originals' schedule is of
301 epochs. Their reader is broken as published: the frame numbers that it meant, one too small, come with
data.fields.video.rule.original_numbers=true.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.masked_reconstruction import ClipTeacher, MaeTeacher, Mask, MaskedReconstruction

CLIPS, EPOCHS, WARMUP, BATCH = 2_000_000, 301, 40, 2048
EPOCH = CLIPS // BATCH

experiment = ix.Experiment(
    stage=MaskedReconstruction(
        student=EncoderSize.PRESETS["6B"],
        clip=FeatureHeads(width=3200, layers=6),
        pooled=PooledHead(width=768),
        mae=FeatureHeads(width=1408, layers=4, head="mlp"),
        clip_teacher=ClipTeacher(EncoderSize.PRESETS["internvl_c"]),
        mae_teacher=MaeTeacher(VideoMaeSize.PRESETS["g14"]),
        mask=Mask(kind="attention", ratio=0.8),
        drop_path=0.3,
    ),
    data=dp.Mixture(
        corpora=(
            dp.Corpus("shards/k_mash"),
            dp.Corpus("shards/ssv2", changes=("video.augment.flip=0",)),
        ),
        fields={"video": dp.Frames(dp.Segments(16), dp.TRAIN_STAGE1)},
    ),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.WarmupCosine(peak=1.5e-4 * BATCH / 256, final=1e-5 * BATCH / 256, warmup=WARMUP * EPOCH),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-6, decay=0.05, clip=3.0),
    mesh=ix.MeshShape(data=-1, fsdp=32),
    remat="full",
    init_from=("clip_teacher=internvl_c_13b_224px.pth", "mae_teacher=vit_g_hybrid_1200e_pre.pth"),
    follows_batch=True,
)
