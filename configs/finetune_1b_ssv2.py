r"""InternVideo2-1B fine-tuned on Something-Something V2, straight from pretraining; V1 as a variant.

Command   ivjax train finetune_1b_ssv2 --workdir runs/1b_ssv2
          ivjax train finetune_1b_ssv2:v1 --workdir runs/1b_ssv1
          ivjax eval runs/1b_ssv2 --suite classify --data ssv2/test.csv --videos ssv2 --clips 2 --crops 3 \
                --sampling ssv2
Hardware  the originals used 32 GPUs, 16 clips each; never run here
Expect    the originals report 77.1 % on V2 (2 clips, 3 crops) and 68.5 on V1; nothing has been trained with
          this file yet

As in the originals, each clip stands twice in a batch, augmented anew each time. Left and right have a
meaning here, so nothing is mirrored. shards/ssv2 is a folder of the data set's shards, or a link to it.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize

CLIPS, BATCH = 168_913, 32 * 16
EPOCH = CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(EncoderSize.PRESETS["1B"], classes=174),
        drop_path=0.3,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/ssv2"),),
        fields={
            "video": dp.Frames(dp.Ticks(8, short="repeat_first"), replace(dp.FINETUNE, flip=0.0)),
            "label": dp.Label(),
        },
        mix=dp.Mix(classes=174, group=16),
        repeats=2,
    ),
    batch=BATCH,
    steps=8 * EPOCH,
    schedule=ix.WarmupCosine(peak=2e-4, final=2e-6, warmup=3 * EPOCH, start=2e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.915, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="dots",
    init_from=("1B_pt.pth",),
    init_fresh=("head", "fc_norm"),
    follows_batch=True,
)

V1_EPOCH = 86_017 // (BATCH // 2)

variants = {
    "v1": (
        "data.corpora.0.path=shards/ssv1",
        f"steps={9 * V1_EPOCH}",
        f"schedule.warmup={3 * V1_EPOCH}",
    ),
}
