"""Dialogue in miniature: a small tower, HiCo and a small decoder answer questions about the demo corpus.

Command   (the corpora of viclip_tiny and its run, see there)
          ivjax data build demo/dialogues.jsonl shards/demo_dialogues --videos demo/videos
          ivjax data build demo/held_out_dialogues.jsonl shards/demo_dialogues_held_out --videos demo/videos
          ivjax data tokenizer train shards/demo_dialogues shards/demo_dialogues.model --size 400
          ivjax train dialogue_tiny --workdir runs/dialogue_tiny
Hardware  two CPU cores
Expect    not measured to its end yet; 5 % of the rows is padding

The tower is viclip_tiny's, from runs/viclip_tiny, and learns on at a fifth of the rate. A video is read as
two clips of four frames, each of which HiCo merges from 64 to 32 tokens. A row holds two conversations, of
305 tokens on average, that do not see each other.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.decoder.sizes import LanguageSize, Rotary
from ivjax.models.dialogue import DialogueSize, ProjectorSize
from ivjax.models.viclip import VisionSize
from ivjax.stages.video_dialogue import Bucket, VideoDialogue

experiment = ix.Experiment(
    stage=VideoDialogue(
        DialogueSize(
            vision=VisionSize(width=128, depth=4, heads=4, out=64, patch=16, image=(64, 64), frames=4),
            bridge=ProjectorSize(128, out=128, frame_tokens=4, image_tokens=4, heads=4, norm=True),
            language=LanguageSize(128, 4, 4, 2, 384, vocabulary=500, rotary=Rotary(10000.0)),
        ),
        buckets=(Bucket("packed", 416, clips=4), Bucket("long", 416, clips=16)),
    ),
    data=dp.Dialogues(
        corpora=(
            dp.Corpus("shards/demo_dialogues", weight=10.0),
            dp.Corpus("shards/demo_needles", weight=1.0, changes=("dialogue.seeing.rule.frames=32",)),
        ),
        eval_corpora=(
            dp.Corpus("shards/demo_dialogues_held_out"),
            dp.Corpus("shards/demo_needles_held_out", changes=("dialogue.seeing.rule.frames=32",)),
        ),
        fields={
            "dialogue": dp.Turns(
                dp.VideoChat2("mistral"),
                dp.ChatTokenizer("shards/demo_dialogues.model"),
                # Left and right have a meaning here, so nothing is mirrored.
                dp.Seeing(dp.Intervals(8), clip_tokens=16),
            )
        },
    ),
    batch=12,
    steps=400,
    schedule=ix.FlooredCosine(peak=2e-3, warmup=30),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.05, clip=1.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=200, keep_last=1),
    log=ix.Logging(every=20),
    trains=(ix.Trains("vision", 0.5),),
    init_from=("vision=runs/viclip_tiny#vision",),
    init_fresh=("bridge", "language"),
)

variants = {
    # As the recipes of the large models: short videos first, one clip of four frames each.
    "progressive": (
        "phases=(Phase('short',150,('data.fields.dialogue.seeing.rule=Intervals(4)',)),Phase('long',250))",
    ),
}
