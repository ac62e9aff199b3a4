"""InternVideo2-S/14, distilled, fine-tuned on Kinetics-710; other Kinetics by override.

Command   ivjax train finetune_s14_k710 --workdir runs/s14_k710
          ivjax eval runs/s14_k710 --suite classify --data k710/test.csv --videos k710 --clips 4 --crops 3
Hardware  the originals used 8 GPUs, 64 clips each; never run here
Expect    the originals report 79.6 % (4 clips, 3 crops), and on K400, K600 and K700 85.4, 86.0 and 75.7;
          nothing has been trained with this file yet

The originals read each clip twice a step, augmented anew each time; here a step has twice as many clips
instead, and there are as many steps.
Then on K400, K600 or K700, five epochs of steps of 1024 clips read twice, one of them to warm up:

  K400       batch=2048 steps=1170 schedule.peak=1.6e-4 schedule.final=8e-6 schedule.start=8e-6
             schedule.warmup=234 data.mix.group=64 stage.classifier.classes=400 data.mix.classes=400
             init_from=('S14_ft_k710_f8.pth?head=400',) init_fresh=()
  K600       the same with classes 600, steps=1785, schedule.warmup=357, ?head=label_mixto600.json
  K700       the same with classes 700, steps=2580, schedule.warmup=516, ?head=label_mixto700.json

where shards/k710 is a link to the shards of that data set.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import options as dp
from ivjax.models.internvideo2.classifier import ClassifierSize
from ivjax.models.internvideo2.encoder import EncoderSize
from ivjax.stages.classification import Classification

CLIPS, BATCH = 658_000, 8 * 64
EPOCH = CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(EncoderSize.PRESETS["S14"], classes=710),
        drop_path=0.1,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k710"),),
        fields={"video": dp.Frames(dp.Spread(8), dp.FINETUNE), "label": dp.Label()},
        mix=dp.Mix(classes=710, group=64),
    ),
    batch=BATCH,
    steps=35 * EPOCH,
    schedule=ix.WarmupCosine(peak=4e-4, final=2e-6, warmup=5 * EPOCH, start=2e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.75, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=1),
    remat="none",
    init_from=("S14_dist_1B_stage2.pth",),
    init_fresh=("head", "fc_norm"),
)
