r"""Linear probe of InternVideo2-1B on Kinetics-400: only fc_norm and the head learn; small sets as variants.

Command   ivjax train probe_linear_1b_k400 --workdir runs/linear_1b_k400
          ivjax train probe_linear_1b_k400:ucf101 --workdir runs/linear_1b_ucf101
          ivjax train probe_linear_1b_k400:hmdb51 --workdir runs/linear_1b_hmdb51
          ivjax eval runs/linear_1b_k400 --suite classify --data k400/test.csv --videos k400 --crops 3
          ivjax eval runs/linear_1b_ucf101 --suite classify --data ucf101/test.csv --videos ucf101 --clips 2 \
                --crops 1 --sampling ucf
          ivjax eval runs/linear_1b_hmdb51 --suite classify --data hmdb51/test.csv --videos hmdb51 --clips 2 \
                --crops 1 --sampling ssv2
Hardware  the originals used 16 GPUs, 64 clips each; never run here
Expect    the originals' table of models has no figure for it; nothing has been trained with this file yet

Nothing runs backward through the encoder, so a step costs a third of fine-tuning's. The originals test HMDB51
with their reader of Something-Something. shards/NAME is a folder of the data set's shards, or a link to it.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize, Probe

CLIPS, BATCH = 240_000, 16 * 64
EPOCH = CLIPS // BATCH

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(replace(EncoderSize.PRESETS["1B"], frames=16), classes=400),
        probe=Probe(),
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k400"),),
        fields={"video": dp.Frames(dp.Spread(16), dp.PROBE), "label": dp.Label()},
        mix=dp.Mix(classes=400, group=64),
    ),
    batch=BATCH,
    steps=15 * EPOCH,
    schedule=ix.WarmupCosine(peak=4e-3, final=4e-6, warmup=3 * EPOCH, start=4e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="none",
    init_from=("1B_pt.pth",),
    init_fresh=("head", "fc_norm"),
    follows_batch=True,
)


def small_set(name: str, classes: int, clips: int, peak: str) -> tuple[str, ...]:
    """A small data set: 20 epochs of steps of 512 clips, without a warm-up."""
    return (
        f"data.corpora.0.path=shards/{name}",
        f"stage.classifier.classes={classes}",
        f"data.mix.classes={classes}",
        "batch=512",
        f"steps={20 * (clips // 512)}",
        f"schedule=WarmupCosine(peak={peak})",
    )


variants = {
    "ucf101": (
        *small_set("ucf101", 101, 9_537, "2e-3"),
        "stage.dropout=0.5",
        "data.fields.video.rule=Stretched(16)",
    ),
    "hmdb51": (
        *small_set("hmdb51", 51, 3_570, "4e-3"),
        "stage.dropout=0.3",
        "data.fields.video.rule=Ticks(16, short='repeat_first')",
    ),
}
