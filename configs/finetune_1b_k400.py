r"""InternVideo2-1B fine-tuned on Kinetics-400, after Kinetics-710; other data sets and 16 frames as variants.

Command   ivjax train finetune_1b_k400 --workdir runs/1b_k400
          ivjax train finetune_1b_k400:k700_f16 --workdir runs/1b_k700
          ivjax eval runs/1b_k400 --suite classify --data k400/test.csv --videos k400 --clips 4 --crops 3
Hardware  the originals used 32 GPUs, 16 clips each; never run here
Expect    the originals report K400 91.3 % (16 frames 91.6), K600 91.4 (91.6), K700 85.0 (85.4), MiT 50.8;
          nothing has been trained with this file yet

As in the originals, each clip stands twice in a batch, augmented anew each time, except for MiT. The classes
of K400 are the first of K710's; those of K600 and K700 are picked out of K710's head by the originals'
lists. The scripts of 16 frames start from the 8-frame model of K710, too. MiT starts from the model of K400,
with a new head. shards/NAME is a folder of the data set's shards, or a link to it.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize

CLIPS, BATCH = 240_000, 32 * 16
EPOCH = CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(EncoderSize.PRESETS["1B"], classes=400),
        drop_path=0.3,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k400"),),
        fields={"video": dp.Frames(dp.Spread(8), dp.FINETUNE), "label": dp.Label()},
        mix=dp.Mix(classes=400, group=16),
        repeats=2,
    ),
    batch=BATCH,
    steps=3 * EPOCH,
    schedule=ix.WarmupCosine(peak=2e-5, final=2e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.9, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="dots",
    init_from=("1B_ft_k710_f8.pth?head=400",),
    follows_batch=True,
)

F16 = ("stage.classifier.encoder.frames=16", "data.fields.video.rule.frames=16")


def kinetics(classes: int, clips: int) -> tuple[str, ...]:
    """Another Kinetics: its classes from the head of K710, three epochs."""
    return (
        f"data.corpora.0.path=shards/k{classes}",
        f"stage.classifier.classes={classes}",
        f"data.mix.classes={classes}",
        f"steps={3 * (clips // (BATCH // 2))}",
        f"init_from=('1B_ft_k710_f8.pth?head=label_mixto{classes}.json',)",
    )


K600, K700 = kinetics(600, 366_000), kinetics(700, 529_000)
MIT_EPOCH = 791_297 // 256

variants = {
    "f16": F16,
    "k600": K600,
    "k600_f16": K600 + F16,
    "k700": K700,
    "k700_f16": K700 + F16,
    "mit": (
        "data.corpora.0.path=shards/mit",
        "data.repeats=1",
        "stage.classifier.classes=339",
        "data.mix.classes=339",
        "data.mix.group=8",
        "batch=256",
        f"steps={15 * MIT_EPOCH}",
        f"schedule=WarmupCosine(peak=5e-5, final=1e-6, warmup={5 * MIT_EPOCH}, start=1e-6)",
        "init_from=('1B_ft_k710_ft_k400_f8.pth?head=none',)",
        "init_fresh=('head',)",
    ),
}
