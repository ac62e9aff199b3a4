"""Attentive probe of InternVideo2-1B on Kinetics-710: a frozen trunk, its pooling and a head learn.

Command   ivjax train probe_attentive_1b_k710 --workdir runs/attentive_1b_k710
          ivjax eval runs/attentive_1b_k710 --suite classify --data k710/test.csv --videos k710 --crops 3
Hardware  the originals used 16 GPUs, 64 clips each; never run here
Expect    the originals' table of models has no figure for it; nothing has been trained with this file yet

The trunk is stage 2's, whose position table is of 4 frames and is resized to 16.

  K400       steps=702 schedule.peak=4e-5 schedule.warmup=0 stage.classifier.classes=400 data.mix.classes=400
             init_from=('runs/attentive_1b_k710?head=400',) init_fresh=()
  K600       the same with classes 600, steps=1071, ?head=label_mixto600.json
  K700       the same with classes 700, steps=1548, ?head=label_mixto700.json
  MiT        steps=27020 schedule.warmup=3860 stage.classifier.classes=339 data.mix.classes=339
             init_from=('runs/attentive_1b_k710?head=none',) init_fresh=('head',)
  SSv2       a copy of this file with extra_mlp=True, classes 174, Ticks(16), flip=0.0 and 168_913 clips

where shards/k710 is a link to the shards of that data set.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import options as dp
from ivjax.models.internvideo2.classifier import ClassifierSize
from ivjax.models.internvideo2.encoder import EncoderSize
from ivjax.stages.classification import Classification, Probe

CLIPS, BATCH = 658_000, 16 * 64
EPOCH = CLIPS // BATCH

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(replace(EncoderSize.PRESETS["1B"], frames=16), classes=710),
        probe=Probe(open_pool=True),
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k710"),),
        fields={"video": dp.Frames(dp.Spread(16), dp.PROBE), "label": dp.Label()},
        mix=dp.Mix(classes=710, group=64),
    ),
    batch=BATCH,
    steps=25 * EPOCH,
    schedule=ix.WarmupCosine(peak=8e-4, warmup=5 * EPOCH, start=4e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="none",
    init_from=("encoder=1B_pt_stage2.pth",),
    init_fresh=("head", "fc_norm"),
)
