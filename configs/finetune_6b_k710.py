"""InternVideo2-6B fine-tuned on Kinetics-710.

Command   ivjax train finetune_6b_k710 --workdir runs/6b_k710
          ivjax eval runs/6b_k710 --suite classify --data k710/test.csv --videos k710 --clips 4 --crops 3
Hardware  the originals used 64 GPUs, 8 clips each; never run here
Expect    the originals report 88.1 % (4 clips, 3 crops); nothing has been trained with this file yet

As in the originals, each clip stands twice in a batch, augmented anew each time. The weights of the
pretrained 6B student were not released.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize

CLIPS, BATCH = 658_000, 64 * 8
EPOCH = CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(EncoderSize.PRESETS["6B"], classes=710),
        drop_path=0.35,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k710"),),
        fields={"video": dp.Frames(dp.Spread(8), dp.FINETUNE), "label": dp.Label()},
        mix=dp.Mix(classes=710, group=8),
        repeats=2,
    ),
    batch=BATCH,
    steps=6 * EPOCH,
    schedule=ix.WarmupCosine(peak=5e-5, warmup=EPOCH, start=2e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.915, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=64),
    remat="full",
    init_from=("6B_pt.pth",),
    init_fresh=("head", "fc_norm"),
    follows_batch=True,
)
