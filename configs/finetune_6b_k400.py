r"""InternVideo2-6B fine-tuned on Kinetics-400, after Kinetics-710; other data sets and 16 frames as variants.

Command   ivjax train finetune_6b_k400 --workdir runs/6b_k400
          ivjax train finetune_6b_k400:k600_f16 --workdir runs/6b_k600
          ivjax eval runs/6b_k400 --suite classify --data k400/test.csv --videos k400 --clips 4 --crops 3
Hardware  the originals used 64 GPUs, 8 clips each; never run here
Expect    the originals report K400 91.9 % (16 frames 92.1), K600 91.7 (91.9), K700 85.7 (85.9), MiT 51.0
          (336 pixels 51.2); nothing has been trained with this file yet

As in the originals, each clip stands twice in a batch, augmented anew each time, except for MiT. The classes
of K400 are the first of K710's; those of K600 and K700 are picked out of K710's head by the originals'
lists. MiT starts from the model of K400, with a new head; 336 pixels from the model of MiT. The originals'
script for 336 pixels cannot run: their model takes 224 and nothing else. shards/NAME is a folder of the data
set's shards, or a link to it.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize

CLIPS, BATCH = 240_000, 64 * 8
EPOCH = CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(EncoderSize.PRESETS["6B"], classes=400),
        drop_path=0.35,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k400"),),
        fields={"video": dp.Frames(dp.Spread(8), dp.FINETUNE), "label": dp.Label()},
        mix=dp.Mix(classes=400, group=8),
        repeats=2,
    ),
    batch=BATCH,
    steps=EPOCH,
    schedule=ix.WarmupCosine(peak=2e-5, final=2e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.915, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=64),
    remat="full",
    init_from=("6B_ft_k710_f8.pth?head=400",),
    follows_batch=True,
)

F16 = (
    "stage.classifier.encoder.frames=16",
    "data.fields.video.rule.frames=16",
    "data.mix.group=4",
    "batch=256",
    "schedule=WarmupCosine(peak=1e-5, final=1e-6)",
)


def kinetics(classes: int, clips: int, views: int = BATCH) -> tuple[str, ...]:
    """Another Kinetics: its classes from the head of K710, one epoch of steps of `views` clips."""
    return (
        f"data.corpora.0.path=shards/k{classes}",
        f"stage.classifier.classes={classes}",
        f"data.mix.classes={classes}",
        f"steps={clips // (views // 2)}",
        f"init_from=('6B_ft_k710_f8.pth?head=label_mixto{classes}.json',)",
    )


MIT_EPOCH = 791_297 // 256
MIT = (
    "data.corpora.0.path=shards/mit",
    "data.repeats=1",
    "stage.classifier.classes=339",
    "data.mix.classes=339",
    "data.mix.group=4",
    "batch=256",
)

variants = {
    "f16": (*F16, f"steps={CLIPS // 128}"),
    "k600": kinetics(600, 366_000),
    "k600_f16": (*F16, *kinetics(600, 366_000, views=256)),
    "k700": kinetics(700, 529_000),
    "k700_f16": (*F16, *kinetics(700, 529_000, views=256)),
    "mit": (
        *MIT,
        f"steps={8 * MIT_EPOCH}",
        f"schedule=WarmupCosine(peak=2.5e-5, warmup={2 * MIT_EPOCH}, start=1e-6)",
        "init_from=('6B_ft_k710_ft_k400_f8.pth?head=none',)",
        "init_fresh=('head',)",
    ),
    "mit_336": (
        *MIT,
        "stage.classifier.encoder.image=(336,336)",
        "stage.drop_path=0.4",
        "optimizer.decay=0.1",
        f"steps={2 * MIT_EPOCH}",
        "schedule=WarmupCosine(peak=1e-5)",
        "init_from=('6B_ft_k710_ft_k400_ft_mit_f8.pth',)",
    ),
}
