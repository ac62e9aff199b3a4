r"""Probes of InternVideo-Next on Kinetics-400: attentive, or linear; base or large.

Command   ivjax train probe_next_k400 --workdir runs/next_attentive_k400
          ivjax train probe_next_k400:linear+large --workdir runs/next_linear_large_k400
          ivjax train probe_next_k400:ssv2 --workdir runs/next_attentive_ssv2
          ivjax eval runs/next_attentive_k400 --suite classify --data k400/test.csv --videos k400 --crops 3
Hardware  the originals' scripts of probes are not public; never run here
Expect    nothing has been trained with this file yet

Schedules and augmentation are those of InternVideo2's probes (probe_attentive_1b_k710, probe_linear_1b_k400).
init_from is the released folder of the Hub; a run of stage 2 does as well: encoder=runs/next_stage2#encoder.
`f32` reads 32 frames, for which the table of 16 is interpolated. shards/NAME is a folder of the data set's
shards, or a link to it.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo_next import NextSize
from ivjax.stages.classification import Classification, ClassifierSize, Probe

CLIPS, BATCH, SSV2 = 240_000, 16 * 64, 168_913
EPOCH, SSV2_EPOCH = CLIPS // BATCH, SSV2 // BATCH

experiment = ix.Experiment(
    stage=Classification(ClassifierSize(NextSize.PRESETS["B14"], classes=400), probe=Probe(open_pool=True)),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k400"),),
        fields={"video": dp.Frames(dp.Spread(16), dp.PROBE), "label": dp.Label()},
        mix=dp.Mix(classes=400, group=64),
    ),
    batch=BATCH,
    steps=25 * EPOCH,
    schedule=ix.WarmupCosine(peak=8e-4, warmup=5 * EPOCH, start=4e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=None),
    mesh=ix.MeshShape(data=-1),
    init_from=("encoder=internvideo_next_base_p14_res224_f16",),
    init_fresh=("head", "fc_norm"),
    follows_batch=True,
)

variants = {
    "large": (
        "stage.classifier.encoder=L14",
        "init_from=('encoder=internvideo_next_large_p14_res224_f16',)",
    ),
    "f32": (
        "stage.classifier.encoder.frames=32",
        "stage.classifier.encoder.table_frames=16",
        "data.fields.video.rule.frames=32",
    ),
    "linear": (
        "stage.probe.open_pool=false",
        f"steps={15 * EPOCH}",
        f"schedule=WarmupCosine(peak=4e-3, final=4e-6, warmup={3 * EPOCH}, start=4e-6)",
    ),
    # Left and right have a meaning here, so nothing is mirrored; the head has an MLP in front.
    "ssv2": (
        "data.corpora.0.path=shards/ssv2",
        "stage.classifier.classes=174",
        "stage.classifier.extra_mlp=true",
        "data.mix.classes=174",
        "data.fields.video.rule=Ticks(16, short='repeat_first')",
        "data.fields.video.augment.flip=0",
        f"steps={25 * SSV2_EPOCH}",
        f"schedule.warmup={5 * SSV2_EPOCH}",
        "init_fresh=('head','fc_norm','extra_mlp')",
    ),
}
