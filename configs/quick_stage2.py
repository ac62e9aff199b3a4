"""Stage 2 in the quickstart: the encoder of stage 1 and captions, pairs and hidden words.

Command   ivjax quickstart        does it all; or, after the commands before it in docs/quickstart.md,
          ivjax train quick_stage2 --workdir runs/stage2
Hardware  two CPU cores; a minute and a half
Expect    held-out loss 7.4 to 8.3 at step 110, 6.8 to 7.4 at step 220, over three seeds; what it tells of the
          order of two colours is in docs/quickstart.md
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.stages.cross_modal import CrossModal, LossWeights

experiment = ix.Experiment(
    stage=CrossModal(
        vision=AlignedSize(
            width=64,
            depth=4,
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
        text=FusionBertSize(
            width=64,
            depth=3,
            heads=4,
            mlp_width=256,
            out=64,
            context=48,
            vocabulary=401,
            places=48,
            fusion=1,
            seen=64,
            start=1,
            mask=400,
        ),
        weights=LossWeights(vtc=2.0),
        mask=None,
        # Pairs that look alike are too hard for fusion layers that start from nothing.
        easy_negatives=1.0,
        drop_path=0.0,
        dropout=0.0,
        chunk=None,
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
    steps=220,
    schedule=ix.FlooredCosine(peak=2e-3, warmup=60),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.1, clip=1.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=200, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=110, batches=4),
    # Words count for more than their places.
    starts=(ix.Starts("text/*word_embed", 3.0),),
    init_from=("vision=runs/stage1#encoder",),
    # The tower knows much already, and the words nothing.
    trains=(ix.Trains("vision", 0.5),),
)
