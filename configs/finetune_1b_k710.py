"""InternVideo2-1B fine-tuned on Kinetics-710: the classifier that all other Kinetics start from.

Command   ivjax train finetune_1b_k710 --workdir runs/1b_k710
          ivjax eval runs/1b_k710 --suite classify --data k710/test.csv --videos k710 --clips 4 --crops 3
Hardware  the originals used 32 GPUs, 16 clips each; never run here
Expect    the originals report 87.6 % (4 clips, 3 crops); nothing has been trained with this file yet

As in the originals, each clip stands twice in a batch, augmented anew each time. init_from is the pretrained
student; its decoders are not read.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize

CLIPS, BATCH = 658_000, 32 * 16
EPOCH = CLIPS // (BATCH // 2)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(EncoderSize.PRESETS["1B"], classes=710),
        drop_path=0.3,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/k710"),),
        fields={"video": dp.Frames(dp.Spread(8), dp.FINETUNE), "label": dp.Label()},
        mix=dp.Mix(classes=710, group=16),
        repeats=2,
    ),
    batch=BATCH,
    steps=9 * EPOCH,
    schedule=ix.WarmupCosine(peak=1e-4, final=2e-6, warmup=2 * EPOCH, start=2e-6),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.05, layer_decay=0.9, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="dots",
    init_from=("1B_pt.pth",),
    init_fresh=("head", "fc_norm"),
    follows_batch=True,
)
