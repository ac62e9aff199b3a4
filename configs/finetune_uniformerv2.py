r"""UniFormerV2 of InternVideo 1 fine-tuned: Kinetics-710 with L/14; the other released models as variants.

Command   ivjax train finetune_uniformerv2 --workdir runs/uniformerv2_k710
          ivjax train finetune_uniformerv2:k400 --workdir runs/uniformerv2_k400
          ivjax train finetune_uniformerv2:ssv2 --workdir runs/uniformerv2_ssv2
          ivjax eval runs/uniformerv2_k400 --suite classify --data k400/test.csv --videos k400 --clips 4 \
                --crops 3
Hardware  the originals used 4 nodes of 8 GPUs, 128 clips a node; never run here
Expect    nothing has been trained with this file yet

init_from is OpenAI's CLIP, whose kernels of images are inflated: the image kernel stands in the middle of
time. Other Kinetics go on from the run on K710, with those of its classes that they have. Something-Something
is never mirrored, has local modules and half of the times. `frozen` trains the global blocks alone: the
originals' file only shows that the frozen model has no balance, not how it is frozen. The scripts say nothing
of mixed clips or smoothed labels, so there are none, and nothing of what the models of Something-Something,
Moments and ActivityNet start from: here CLIP, K710 and K710.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.uniformerv2 import UniFormerV2Size
from ivjax.stages.classification import Classification, ClassifierSize

CLIPS, BATCH = 658_000, 4 * 128
EPOCH = CLIPS // BATCH

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(UniFormerV2Size.PRESETS["L14"], classes=710),
        mixed=False,
        smoothing=0.0,
        dropout=0.5,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k710"),),
        fields={"video": dp.Frames(dp.Spread(8), dp.FINETUNE), "label": dp.Label()},
    ),
    batch=BATCH,
    steps=40 * EPOCH,
    schedule=ix.WarmupCosine(peak=1e-5, final=1e-6, warmup=5 * EPOCH),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, clip=None),
    mesh=ix.MeshShape(data=-1),
    remat="dots",
    init_from=("encoder=ViT-L-14.pt",),
    init_fresh=("head", "fc_norm", "encoder/globals", "encoder/video_token", "encoder/balance"),
)

RUN = "runs/uniformerv2_k710"


def data_set(name: str, classes: int) -> tuple[str, ...]:
    """Other shards and as many classes."""
    return (f"data.corpora.0.path=shards/{name}", f"stage.classifier.classes={classes}")


def kinetics(classes: int, clips: int, head: str) -> tuple[str, ...]:
    """Another Kinetics after K710: five epochs at a small rate."""
    epoch = clips // BATCH
    return (
        *data_set(f"k{classes}", classes),
        f"steps={5 * epoch}",
        f"schedule=WarmupCosine(peak=1.5e-6, final=1e-6, warmup={epoch})",
        f"init_from=('{RUN}?head={head}',)",
        "init_fresh=()",
    )


MIT_EPOCH, ANET_EPOCH, SSV2_EPOCH = 791_297 // BATCH, 9_949 // BATCH, 168_913 // 128


variants = {
    "b16": (
        "stage.classifier.encoder=B16",
        "batch=1024",
        f"steps={55 * (CLIPS // 1024)}",
        f"schedule.warmup={5 * (CLIPS // 1024)}",
        "init_from=('encoder=ViT-B-16.pt',)",
    ),
    "k400": kinetics(400, 240_000, "400"),
    "k600": kinetics(600, 366_000, "label_mixto600.json"),
    "k700": kinetics(700, 529_000, "label_mixto700.json"),
    "mit_336": (
        *data_set("mit", 339),
        "stage.classifier.encoder=L14_336",
        f"steps={18 * MIT_EPOCH}",
        "schedule.warmup=0",
        f"init_from=('{RUN}?head=none',)",
        "init_fresh=('head',)",
    ),
    "anet": (
        *data_set("anet", 200),
        f"steps={20 * ANET_EPOCH}",
        "schedule=WarmupCosine(peak=5e-6, final=1e-6)",
        f"init_from=('{RUN}?head=none',)",
        "init_fresh=('head',)",
    ),
    "frozen": (
        "stage.classifier.encoder=L14_336",
        "stage.classifier.encoder.fused=false",
        "stage.probe=Probe(open_pool=True)",
        f"steps={50 * EPOCH}",
        "schedule.peak=8e-4",
        "init_from=('encoder=ViT-L-14-336px.pt',)",
        "init_fresh=('head','fc_norm','encoder/globals','encoder/video_token')",
    ),
    # Left and right have a meaning here, so nothing is mirrored.
    "ssv2": (
        *data_set("ssv2", 174),
        "stage.classifier.encoder=L14_ssv2",
        "data.fields.video.rule.frames=16",
        "data.fields.video.augment.flip=0",
        "batch=128",
        f"steps={22 * SSV2_EPOCH}",
        f"schedule=WarmupCosine(peak=2e-5, final=1e-6, warmup={5 * SSV2_EPOCH})",
        "init_fresh=('head','fc_norm','encoder/globals','encoder/video_token','encoder/balance',"
        "'encoder/blocks/local1','encoder/blocks/local2')",
    ),
}
