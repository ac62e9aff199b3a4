r"""VideoMAE ViT-H of InternVideo 1 fine-tuned on Kinetics-710; K400 and Something-Something as variants.

Command   ivjax train finetune_videomae_h --workdir runs/videomae_h_k710
          ivjax train finetune_videomae_h:k400 --workdir runs/videomae_h_k400
          ivjax train finetune_videomae_h:ssv2 --workdir runs/videomae_h_ssv2
          ivjax eval runs/videomae_h_k400 --suite classify --data k400/test.csv --videos k400 --clips 7 \
                --crops 3
Hardware  never run here
Expect    nothing has been trained with this file yet

As in the originals, each clip stands twice in a batch, augmented anew each time. The rate is multiplied by
the clips of a batch over 256; their number of GPUs is not known, so the batch is that of InternVideo2's.
shards/NAME is a folder of the data set's shards, or a link to it.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.classification import Classification, ClassifierSize

CLIPS, BATCH = 658_000, 512
EPOCH = CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(replace(VideoMaeSize.PRESETS["H16"], final_norm=False), classes=710),
        drop_path=0.2,
        dropout=0.5,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k710"),),
        fields={"video": dp.Frames(dp.Dense(16, 4), dp.FINETUNE), "label": dp.Label()},
        mix=dp.Mix(classes=710, group=16),
        repeats=2,
    ),
    batch=BATCH,
    steps=40 * EPOCH,
    schedule=ix.WarmupCosine(peak=1e-3 * BATCH / 256, final=1e-6 * BATCH / 256, warmup=5 * EPOCH),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.8, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="dots",
    init_from=("encoder=vit_h_hybrid_pt_800e.pth",),
    init_fresh=("head", "fc_norm"),
    follows_batch=True,
)

K400_EPOCH, SSV2_EPOCH = 240_000 // (BATCH // 2), 168_913 // (BATCH // 2)

variants = {
    "k400": (
        "data.corpora.0.path=shards/k400",
        "stage.classifier.classes=400",
        "data.mix.classes=400",
        f"steps={3 * K400_EPOCH}",
        f"schedule=WarmupCosine(peak={2e-6 * BATCH / 256}, warmup={K400_EPOCH})",
        "init_from=('runs/videomae_h_k710?head=400',)",
        "init_fresh=()",
    ),
    # Left and right have a meaning here, so nothing is mirrored.
    "ssv2": (
        "data.corpora.0.path=shards/ssv2",
        "stage.classifier.classes=174",
        "data.mix.classes=174",
        "stage.dropout=0.3",
        "data.fields.video.rule=Spread(16)",
        "data.fields.video.augment.flip=0",
        f"steps={30 * SSV2_EPOCH}",
        f"schedule.peak={5e-4 * BATCH / 256}",
        f"schedule.warmup={5 * SSV2_EPOCH}",
    ),
}
