r"""Attentive probe of InternVideo2-6B on ActivityNet, after Kinetics-400; HACS as a variant.

Command   ivjax train probe_attentive_6b_anet --workdir runs/attentive_6b_anet
          ivjax train probe_attentive_6b_anet:hacs --workdir runs/attentive_6b_hacs
          ivjax eval runs/attentive_6b_anet --suite classify --data anet/test.csv --videos anet --clips 4 \
                --crops 3 --labels several
Hardware  the originals used 16 GPUs, 64 clips each; never run here
Expect    the originals' table of models has mean average precision (`map`) for it; nothing has been trained
          with this file yet

The originals' scripts load a 1B file into the 6B model; here it is the 6B model that was fine-tuned on K400.
They are called f8 and read 16 frames, are probes that lie among the fine-tunings, and augment like these.
The numbers of clips, 10,024 and 37,613, are those of the data sets' training parts. shards/NAME is a folder
of the data set's shards, or a link to it.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.stages.classification import Classification, ClassifierSize, Probe

CLIPS, BATCH = 10_024, 16 * 64
EPOCH, HACS_EPOCH = CLIPS // BATCH, 37_613 // BATCH

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(replace(EncoderSize.PRESETS["6B"], frames=16), classes=200),
        probe=Probe(open_pool=True),
        dropout=0.5,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/anet"),),
        fields={"video": dp.Frames(dp.Spread(16), dp.FINETUNE), "label": dp.Label()},
        mix=dp.Mix(classes=200, group=64),
    ),
    batch=BATCH,
    steps=40 * EPOCH,
    schedule=ix.WarmupCosine(peak=8e-4),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=None),
    mesh=ix.MeshShape(data=-1, fsdp=16),
    remat="none",
    init_from=("6B_ft_k710_ft_k400_f8.pth?head=none",),
    init_fresh=("head",),
    follows_batch=True,
)

variants = {"hacs": ("data.corpora.0.path=shards/hacs", f"steps={40 * HACS_EPOCH}")}
