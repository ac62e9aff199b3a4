"""The clip teacher of the quickstart: it learns from captions.

Command   the data commands of docs/quickstart.md, then
          ivjax train quick_teacher_clip --workdir runs/teacher_clip
Hardware  two CPU cores; a minute
Expect    held-out loss 3.7 to 4.2 at step 100, 1.4 to 1.7 at step 360, over three seeds
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize
from ivjax.models.viclip import TextSize
from ivjax.stages.dual_encoder import Contrast, DualEncoder

experiment = ix.Experiment(
    stage=DualEncoder(
        # All frames at once: means over frames would lose which came first.
        vision=EncoderSize(
            width=64,
            depth=3,
            heads=4,
            mlp_width=256,
            pool_heads=4,
            pool_width=64,
            patch=7,
            image=(28, 28),
            frames=8,
            tubelet=2,
            layer_scale=1.0,
        ),
        text=TextSize(width=64, depth=2, heads=4, out=64, context=48, vocabulary=400, end=2),
        frames=8,
        contrast=Contrast(temperature=0.07),
        mask=0.0,
        drop_path=0.0,
        train_text=True,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        fields={
            "video": dp.Frames(dp.Intervals(8)),
            "text": dp.Caption(dp.SentencePiece("shards/demo.model", 48)),
        },
        cache_gib=1.0,
    ),
    batch=64,
    steps=360,
    schedule=ix.WarmupCosine(peak=1e-3, final=2e-5, warmup=150),
    optimizer=ix.AdamW(betas=(0.9, 0.98), decay=0.1, clip=1.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=200, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=4),
    # So that captions differ from the start: words drawn at 0.02 are hardly seen beside what the blocks add.
    starts=(ix.Starts("text/word_embed", 30.0),),
)
