"""A small InternViT learns what a clip shows from the words of its attributes: the tower of dialogue_tiny.

Command   ivjax data demo talks --seed 1 --clips 8000 --held-out 1
          ivjax data build talks/annotations.jsonl shards/demo_talks_clips --videos talks/videos \
                recipe.short_side=72 recipe.fps=4 recipe.encoding.preset=ultrafast
          (and the held-out clips of viclip_tiny, see there)
          ivjax train tags_tiny --workdir runs/tags_tiny
          ivjax train tags_tiny:longer --workdir runs/tags_longer
          ivjax train tags_tiny:merged --workdir runs/tags_merged
Hardware  two CPU cores; 16 minutes each of the first two, 11 the third; 9 to draw, 6 to build
Expect    loss 3.4 at step 20, 2.5 at step 1,000, 2.56 on held-out clips, and 2.44 after `longer`. Of held-out
          clips with one group of shapes the likeliest colour and background are always right, shape for 62 %
          and then 83 %, number for 57 % and 70 %, motion for 46 % and 57 %. `merged` begins at 2.76 on
          held-out clips and ends at 2.52

All words of a clip, such as red, ring, falls and striped, have an even share of the target, so one softmax
learns colours, shapes, numbers, motions and backgrounds at once. The highest values of a frame's patches tell
its shapes; HiCo's means blur them: a linear reading of all tokens after `longer` tells 84 % of the held-out
shapes, and of the 16 tokens that HiCo leaves of a clip 41 %. So the last 600 steps read merged tokens.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.data_pipelines.demo.background import BACKGROUNDS
from ivjax.data_pipelines.demo.scene import COLOURS, MOTIONS, SHAPES
from ivjax.models.internvit import InternVitSize
from ivjax.stages.classification import Classification, ClassifierSize

_NUMBERS = ("1", "2", "3", "4")
_WORDS = (*COLOURS, *SHAPES, *MOTIONS, *BACKGROUNDS, *_NUMBERS)
_ASKED = ("colour", "shape", "motion", "count")
_OF_EVENTS = tuple(f"{name}{event}" for event in ("", "2", "3") for name in _ASKED)

experiment = ix.Experiment(
    stage=Classification(
        ClassifierSize(
            InternVitSize(64, 3, 4, 256, patch=8, image=(64, 64), frames=4, layer_scale=1.0),
            classes=len(_WORDS),
            # Of each frame, so that their order can be told; in a mean alone small shapes are lost.
            merge="avgN_maxN",
        ),
        smoothing=0.0,
        head_scale=1.0,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo_talks_clips"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        # Left and right have a meaning here, so nothing is mirrored.
        fields={
            "video": dp.Frames(dp.Intervals(4), dp.Augment(dp.RandomResizedCrop((0.8, 1.0), (0.9, 1.1)))),
            "targets": dp.Tags(("background", *_OF_EVENTS), _WORDS),
        },
    ),
    batch=64,
    steps=1000,
    schedule=ix.FlooredCosine(peak=2e-3, warmup=40),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.05, clip=1.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=100, batches=4),
    starts=(ix.Starts("encoder/*kernel", 4.0),),
)

variants = {
    # A thousand steps more, at other clips.
    "longer": (
        "init_from=('encoder=runs/tags_tiny#encoder',)",
        "init_fresh=('head','fc_norm','down_norm')",
        "schedule.peak=1.5e-3",
        "seed=1",
    ),
    # Taught through HiCo: what the mean of merged patches blurs, such as shapes, comes back.
    "merged": (
        "init_from=('encoder=runs/tags_longer#encoder',)",
        "init_fresh=('head','fc_norm','down_norm')",
        "stage.classifier.frame_tokens=4",
        "stage.classifier.merge_heads=4",
        "starts=()",
        "schedule.peak=1.5e-3",
        "steps=600",
        "seed=2",
        "data.cache_gib=5",
    ),
}
