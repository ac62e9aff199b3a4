r"""Linear probe of InternVideo2-6B on Kinetics-400: only fc_norm and the head learn; small sets as variants.

Command   ivjax train probe_linear_6b_k400 --workdir runs/linear_6b_k400
          ivjax train probe_linear_6b_k400:ucf101 --workdir runs/linear_6b_ucf101
          ivjax train probe_linear_6b_k400:hmdb51 --workdir runs/linear_6b_hmdb51
          ivjax train probe_linear_6b_k400:stage2 --workdir runs/linear_6b_k400_stage2
          ivjax eval runs/linear_6b_k400 --suite classify --data k400/test.csv --videos k400 --crops 3
          ivjax eval runs/linear_6b_ucf101 --suite classify --data ucf101/test.csv --videos ucf101 --clips 2 \
                --crops 1 --sampling ucf
          ivjax eval runs/linear_6b_hmdb51 --suite classify --data hmdb51/test.csv --videos hmdb51 --clips 2 \
                --crops 1 --sampling ssv2
Hardware  the originals used 16 GPUs, 64 clips each; never run here
Expect    the originals' table of models has no figure for it; nothing has been trained with this file yet

The originals' scripts for K400 cannot run: one names a model (vit_6B_patch14_224), the other a program
(run_linear_probing4_2.py) that do not exist. The originals test HMDB51 with their reader of
Something-Something. `stage2` probes the trunk of stage 2; its position table is of 4 frames and is resized to
16. The weights of the pretrained 6B student were not released. shards/NAME is a folder of the data set's
shards, or a link to it.
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
        ClassifierSize(replace(EncoderSize.PRESETS["6B"], frames=16), classes=400),
        probe=Probe(),
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k400"),),
        fields={"video": dp.Frames(dp.Spread(16), dp.PROBE), "label": dp.Label()},
        mix=dp.Mix(classes=400, group=64),
    ),
    batch=BATCH,
    steps=9 * EPOCH,
    schedule=ix.WarmupCosine(peak=2e-3, warmup=2 * EPOCH, start=4e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=16),
    remat="none",
    init_from=("6B_pt.pth",),
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


STAGE2 = ("init_from=('encoder=6B_pt_stage2.pth',)",)
UCF101 = (*small_set("ucf101", 101, 9_537, "2e-3"), "data.fields.video.rule=Stretched(16)")
HMDB51 = (
    *small_set("hmdb51", 51, 3_570, "4e-3"),
    "stage.dropout=0.3",
    "data.fields.video.rule=Ticks(16, short='repeat_first')",
)

variants = {
    "stage2": STAGE2,
    "ucf101": (*UCF101, "stage.dropout=0.5"),
    "ucf101_stage2": UCF101 + STAGE2,
    "hmdb51": HMDB51,
    "hmdb51_stage2": HMDB51 + STAGE2,
}
