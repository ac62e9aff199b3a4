"""InternVideo2-1B fine-tuned on Kinetics-400, after Kinetics-710; other Kinetics by override.

Command   ivjax train finetune_1b_k400 --workdir runs/1b_k400
          ivjax eval runs/1b_k400 --suite classify --data k400/test.csv --videos k400 --clips 4 --crops 3
Hardware  the originals used 32 GPUs, 16 clips each; never run here
Expect    the originals report K400 91.3 % (16 frames 91.6), K600 91.4 (91.6), K700 85.0 (85.4); nothing has
          been trained with this file yet

The originals read each clip twice a step, augmented anew each time; here a step has twice as many clips
instead, and there are as many steps.
The classes of K400 are the first of K710's; those of K600 and K700 are picked out of K710's head by the
originals' lists. shards/kinetics is a folder of the data set's shards, or a link to it.

  K600       stage.classifier.classes=600 data.mix.classes=600 steps=4287
             init_from=('1B_ft_k710_f8.pth?head=label_mixto600.json',)
  K700       stage.classifier.classes=700 data.mix.classes=700 steps=6198
             init_from=('1B_ft_k710_f8.pth?head=label_mixto700.json',)
  16 frames  stage.classifier.encoder.frames=16 data.fields.video.rule.frames=16
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import options as dp
from ivjax.models.internvideo2.classifier import ClassifierSize
from ivjax.models.internvideo2.encoder import EncoderSize
from ivjax.stages.classification import Classification

CLIPS, BATCH = 240_000, 32 * 16
EPOCH = CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(EncoderSize.PRESETS["1B"], classes=400),
        drop_path=0.3,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/kinetics"),),
        fields={"video": dp.Frames(dp.Spread(8), dp.FINETUNE), "label": dp.Label()},
        mix=dp.Mix(classes=400, group=16),
    ),
    batch=BATCH,
    steps=3 * EPOCH,
    schedule=ix.WarmupCosine(peak=2e-5, final=2e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.9, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="dots",
    init_from=("1B_ft_k710_f8.pth?head=400",),
)
