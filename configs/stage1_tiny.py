r"""Stage 1 in miniature: a student learns, from a quarter of a clip's tokens, what two teachers see in it.

Command   ivjax data demo demo --clips 480 --held-out 160
          ivjax data build demo/annotations.jsonl shards/demo --videos demo/videos
          ivjax data build demo/held_out.jsonl shards/demo_held_out --videos demo/videos
          ivjax data tokenizer train shards/demo shards/demo.model --size 400
          ivjax train teacher_clip_tiny --workdir runs/teacher_clip
          ivjax train teacher_pixels_tiny --workdir runs/teacher_pixels
          ivjax train stage1_tiny --workdir runs/stage1
          ivjax eval runs/stage1 --suite probe --attribute colour --train shards/demo \
                --data shards/demo_held_out
Hardware  two CPU cores; five minutes for all of it, a bit over one for this run
Expect    loss 1.05 at step 20, 0.12 at step 320, 0.09 on held-out clips; a linear probe for the colour is
          right for 73 % of the held-out clips of one colour, from random features for 23 % (chance 12.5 %)

Both teachers are made here, on the same corpus: the image tower of the contrast between clips and captions
(teacher_clip_tiny), and the encoder of a VideoMAE (teacher_pixels_tiny).
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import EncoderSize, FeatureHeads, PooledHead
from ivjax.models.videomae import VideoMaeSize
from ivjax.stages.masked_reconstruction import ClipTeacher, MaeTeacher, Mask, MaskedReconstruction

experiment = ix.Experiment(
    stage=MaskedReconstruction(
        student=EncoderSize(
            width=64,
            depth=4,
            heads=4,
            mlp_width=256,
            pool_heads=4,
            pool_width=64,
            image=(56, 56),
            frames=4,
            layer_scale=0.1,
        ),
        clip=FeatureHeads(width=64, layers=2),
        pooled=PooledHead(width=64),
        mae=FeatureHeads(width=64, layers=1, head="mlp"),
        clip_teacher=ClipTeacher(
            EncoderSize(
                width=64,
                depth=3,
                heads=4,
                mlp_width=256,
                pool_heads=4,
                pool_width=64,
                image=(56, 56),
                frames=1,
                layer_scale=0.3,
            )
        ),
        mae_teacher=MaeTeacher(
            VideoMaeSize(width=64, depth=3, heads=4, mlp_width=256, patch=14, image=(56, 56), frames=8)
        ),
        mask=Mask(kind="attention", ratio=0.75),
        drop_path=0.0,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        fields={"video": dp.Frames(dp.Intervals(8))},
        workers=2,
    ),
    batch=16,
    steps=320,
    schedule=ix.WarmupCosine(peak=2e-3, final=2e-5, warmup=32),
    optimizer=ix.AdamW(betas=(0.9, 0.98), decay=0.05, clip=3.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=160, batches=4),
    init_from=("clip_teacher=runs/teacher_clip#vision", "mae_teacher=runs/teacher_pixels#encoder"),
)
