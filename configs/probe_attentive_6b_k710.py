"""Attentive probe of InternVideo2-6B on Kinetics-710: a frozen trunk, its pooling and a head learn.

Command   ivjax train probe_attentive_6b_k710 --workdir runs/attentive_6b_k710
          ivjax train probe_attentive_6b_k710:k400 --workdir runs/attentive_6b_k400
          ivjax eval runs/attentive_6b_k710 --suite classify --data k710/test.csv --videos k710 --crops 3
Hardware  the originals used 32 GPUs, 32 clips each; never run here
Expect    the originals' table of models has no figure for it; nothing has been trained with this file yet

The trunk is stage 2's, whose position table is of 4 frames and is resized to 16. Other Kinetics and MiT start
from the run on K710, which must lie in runs/attentive_6b_k710. The originals' script for K710 cannot run: it
gives an option that their program does not have (--finetune_vclip), and names a 1B file. shards/NAME is a
folder of the data set's shards, or a link to it.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize, Probe

CLIPS, BATCH, RUN = 658_000, 32 * 32, "runs/attentive_6b_k710"
EPOCH, MIT_EPOCH, SSV2_EPOCH = CLIPS // BATCH, 791_297 // (2 * BATCH), 168_913 // BATCH

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(replace(EncoderSize.PRESETS["6B"], frames=16), classes=710),
        probe=Probe(open_pool=True),
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k710"),),
        fields={"video": dp.Frames(dp.Spread(16), dp.PROBE), "label": dp.Label()},
        mix=dp.Mix(classes=710, group=32),
    ),
    batch=BATCH,
    steps=20 * EPOCH,
    schedule=ix.WarmupCosine(peak=4e-4, warmup=4 * EPOCH, start=4e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=32),
    remat="none",
    init_from=("encoder=6B_pt_stage2.pth",),
    init_fresh=("head", "fc_norm"),
    follows_batch=True,
)


def data_set(name: str, classes: int) -> tuple[str, ...]:
    """Other shards and as many classes, mixed among the 64 clips of a GPU."""
    return (
        f"data.corpora.0.path=shards/{name}",
        f"stage.classifier.classes={classes}",
        f"data.mix.classes={classes}",
        "data.mix.group=64",
    )


def kinetics(classes: int, clips: int, head: str) -> tuple[str, ...]:
    """Another Kinetics after K710: three epochs without a warm-up."""
    return (
        *data_set(f"k{classes}", classes),
        f"steps={3 * (clips // BATCH)}",
        "schedule.peak=4e-5",
        "schedule.warmup=0",
        f"init_from=('{RUN}?head={head}',)",
        "init_fresh=()",
    )


variants = {
    "k400": kinetics(400, 240_000, "400"),
    "k600": kinetics(600, 366_000, "label_mixto600.json"),
    "k700": kinetics(700, 529_000, "label_mixto700.json"),
    "mit": (
        *data_set("mit", 339),
        f"batch={2 * BATCH}",
        f"steps={30 * MIT_EPOCH}",
        f"schedule=WarmupCosine(peak=8e-4, warmup={5 * MIT_EPOCH}, start=8e-6)",
        f"init_from=('{RUN}?head=none',)",
        "init_fresh=('head',)",
    ),
    # Left and right have a meaning here, so nothing is mirrored; the head has an MLP in front.
    "ssv2": (
        *data_set("ssv2", 174),
        "stage.classifier.extra_mlp=true",
        "data.fields.video.rule=Ticks(16, short='repeat_first')",
        "data.fields.video.augment.flip=0",
        f"steps={20 * SSV2_EPOCH}",
        f"schedule.warmup={4 * SSV2_EPOCH}",
        "init_fresh=('head','fc_norm','extra_mlp')",
    ),
}
