r"""InternVideo2-6B fine-tuned on Something-Something V2, straight from pretraining; V1 as a variant.

Command   ivjax train finetune_6b_ssv2 --workdir runs/6b_ssv2
          ivjax train finetune_6b_ssv2:v1 --workdir runs/6b_ssv1
          ivjax eval runs/6b_ssv2 --suite classify --data ssv2/test.csv --videos ssv2 --clips 5 --crops 3 \
                --sampling ssv2
Hardware  the originals used 64 GPUs, 8 clips each; never run here
Expect    the originals report 77.5 % on V2 (5 clips, 3 crops) and 69.7 on V1 (4 clips, 3 crops); nothing has
          been trained with this file yet

As in the originals, each clip stands twice in a batch, augmented anew each time. Left and right have a
meaning here, so nothing is mirrored. The weights of the pretrained 6B student were not released.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize

CLIPS, V1_CLIPS, BATCH = 168_913, 86_017, 64 * 8
EPOCH, V1_EPOCH = CLIPS // (BATCH // 2), V1_CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(EncoderSize.PRESETS["6B"], classes=174),
        drop_path=0.4,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/ssv2"),),
        fields={
            "video": dp.Frames(dp.Ticks(8, short="repeat_first"), replace(dp.FINETUNE, flip=0.0)),
            "label": dp.Label(),
        },
        mix=dp.Mix(classes=174, group=8),
        repeats=2,
    ),
    batch=BATCH,
    steps=6 * EPOCH,
    schedule=ix.WarmupCosine(peak=1.5e-4, warmup=2 * EPOCH, start=2e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.915, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=64),
    remat="full",
    init_from=("6B_pt.pth",),
    init_fresh=("head", "fc_norm"),
    follows_batch=True,
)

variants = {
    "v1": (
        "data.corpora.0.path=shards/ssv1",
        f"steps={7 * V1_EPOCH}",
        f"schedule.warmup={2 * V1_EPOCH}",
    ),
}
