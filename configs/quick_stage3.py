"""Stage 3 in the quickstart: the tower of stage 2, HiCo and a small decoder answer questions about videos.

Command   ivjax quickstart        does it all; or, after the commands before it in docs/quickstart.md,
          ivjax train quick_stage3 --workdir runs/stage3
Hardware  two CPU cores; a minute and a half
Expect    held-out loss 0.73 to 0.82 at step 110, 0.61 to 0.64 at step 440, over three seeds; answers:
          docs/quickstart.md
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.decoder.sizes import LanguageSize, Rotary
from ivjax.models.dialogue import DialogueSize, ProjectorSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.stages.video_dialogue import Bucket, VideoDialogue

LONG = ("dialogue.seeing.rule.frames=16",)  # frames of the videos in which a needle is hidden

experiment = ix.Experiment(
    stage=VideoDialogue(
        DialogueSize(
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
            # HiCo: of the 64 tokens of a clip 16 are left.
            bridge=ProjectorSize(64, out=96, frame_tokens=4, image_tokens=4, heads=4, norm=True),
            language=LanguageSize(96, 3, 4, 2, 288, vocabulary=500, rotary=Rotary(10000.0)),
        ),
        buckets=(Bucket("packed", 240, clips=6),),
    ),
    data=dp.Dialogues(
        corpora=(
            dp.Corpus("shards/demo_descriptions", weight=1.0),
            dp.Corpus("shards/demo_needles", weight=1.0, changes=LONG),
        ),
        eval_corpora=(dp.Corpus("shards/demo_descriptions_held_out"),),
        fields={
            "dialogue": dp.Turns(
                dp.VideoChat2("mistral"),
                dp.ChatTokenizer("shards/demo_descriptions.model"),
                dp.Seeing(dp.Intervals(8), clip_tokens=16),
            )
        },
    ),
    batch=8,
    steps=440,
    schedule=ix.FlooredCosine(peak=2e-3, warmup=30),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.05, clip=1.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=200, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=110, batches=8),
    starts=(ix.Starts("language/*kernel", 2.0),),
    init_from=("vision=runs/stage2#vision",),
    init_fresh=("bridge", "language"),
    # The tower learns on, slowly: which colour belongs to which shape is more than it was taught.
    trains=(ix.Trains("vision", 0.3),),
)
