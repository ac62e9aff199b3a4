r"""Stage 2 in miniature, from a tiny stage 1: clips of moving shapes and captions, pairs and hidden words.

Command   (the commands of stage1_tiny, for the demo corpus and runs/stage1; then)
          ivjax train stage2_tiny --workdir runs/stage2_tiny
          ivjax eval runs/stage2_tiny --suite retrieval --data shards/demo_held_out
Hardware  two CPU cores; three minutes
Expect    loss 7.8 on held-out clips at step 220. Of 160 held-out clips R@1 is 4.8 % from text to video and
          4.4 % back (chance 0.6 %), with seed 0. The matching of pairs is not learned yet: stage2_av_tiny

The vocabulary has one id more than the tokenizer has pieces: it stands in place of hidden words.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.stages.cross_modal import CrossModal
from ivjax.stages.mask import Mask

experiment = ix.Experiment(
    stage=CrossModal(
        vision=AlignedSize(
            width=64,
            depth=4,
            heads=4,
            mlp_width=256,
            pool_heads=4,
            pool_width=64,
            image=(56, 56),
            frames=4,
            layer_scale=0.1,
            images="table",
        ),
        text=FusionBertSize(
            width=96,
            depth=4,
            heads=4,
            mlp_width=384,
            out=64,
            context=48,
            vocabulary=401,
            places=48,
            fusion=2,
            seen=64,
            start=1,
            mask=400,
        ),
        mask=Mask("random", 0.5, "clip"),
        drop_path=0.0,
        dropout=0.0,
        chunk=None,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        fields={
            "video": dp.Frames(dp.Intervals(4)),
            "text": dp.Caption(dp.SentencePiece("shards/demo.model", 48)),
        },
    ),
    batch=64,
    steps=220,
    schedule=ix.FlooredCosine(peak=1e-3, warmup=20),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.05, clip=3.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=2),
    init_from=("vision=runs/stage1#encoder",),
    init_fresh=("vision/img_pos_embed",),
)

variants = {"from_nothing": ("init_from=()", "init_fresh=()")}
