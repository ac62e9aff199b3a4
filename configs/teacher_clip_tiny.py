"""The clip teacher of stage1_tiny: an image tower that learns from captions, as InternVL-C's did.

Command   the data commands of viclip_tiny's header, then
          ivjax train teacher_clip_tiny --workdir runs/teacher_clip
Hardware  two CPU cores; under two minutes
Expect    loss 3.46 at step 20, 1.76 at step 300; on held-out clips, whose combinations training never shows,
          it rises to 5.3: 480 clips are learned by heart. The features of colour carry over, see stage1_tiny
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.viclip import TextSize
from ivjax.stages.dual_encoder import Contrast, DualEncoder

experiment = ix.Experiment(
    stage=DualEncoder(
        # One frame at a time; the pooled features of a clip's four are averaged.
        vision=EncoderSize(
            width=64,
            depth=3,
            heads=4,
            mlp_width=256,
            pool_heads=4,
            pool_width=64,
            image=(56, 56),
            frames=1,
            layer_scale=0.3,
        ),
        text=TextSize(width=64, depth=2, heads=4, out=64, context=48, vocabulary=400, end=2),
        frames=4,
        contrast=Contrast(temperature=0.07),
        mask=0.0,
        drop_path=0.0,
        train_text=True,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        fields={
            "video": dp.Frames(dp.Intervals(4)),
            "text": dp.Caption(dp.SentencePiece("shards/demo.model", 48)),
        },
        workers=2,
    ),
    batch=32,
    steps=300,
    schedule=ix.WarmupCosine(peak=1e-3, final=2e-5, warmup=30),
    optimizer=ix.AdamW(betas=(0.9, 0.98), decay=0.05, clip=3.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=150, batches=2),
)
