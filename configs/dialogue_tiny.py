"""Dialogue in miniature: a small tower, HiCo and a small decoder answer questions about the demo corpus.

Command   (the corpora and the runs of tags_tiny, see there; demo/ is that of viclip_tiny)
          ivjax data build talks/descriptions.jsonl shards/demo_descriptions --videos talks/videos \
                recipe.short_side=72 recipe.fps=4 recipe.encoding.preset=ultrafast
          ivjax data build talks/dialogues.jsonl shards/demo_dialogues --videos talks/videos \
                recipe.short_side=72 recipe.fps=4 recipe.encoding.preset=ultrafast
          ivjax data build demo/held_out_dialogues.jsonl shards/demo_dialogues_held_out --videos demo/videos
          ivjax data demo needles --needles 4000 --frames 32 --train
          ivjax data build needles/needles_32.jsonl shards/demo_needles --videos needles/needles_32
          ivjax data demo needles_held_out --needles 96 --frames 32
          ivjax data build needles_held_out/needles_32.jsonl shards/demo_needles_held_out \
                --videos needles_held_out/needles_32
          ivjax data tokenizer train shards/demo_dialogues shards/demo_dialogues.model --size 500
          ivjax train dialogue_tiny:describe --workdir runs/dialogue_described
          ivjax train dialogue_tiny --workdir runs/dialogue_tiny
          ivjax eval runs/dialogue_tiny --suite mcqa --data shards/demo_dialogues_held_out --by text
          ivjax eval runs/dialogue_tiny --suite needle --data needles_held_out/needles_32.jsonl \
                --videos needles_held_out/needles_32 --by text
Hardware  two CPU cores; eleven minutes to describe, under eight to answer: 262 s on cores that drew 45 clips
          a second, about 450 s on others
Expect    of the options of held-out questions, over three seeds, 65 to 68 % right, 2.6 to 2.7 times chance:
          background 99 %, colour 88 %, motion 68 %, number 57 %, order 46 %, from where 42 %, shapes 39 %,
          when 27 % (chance 32 %); the needle 96 to 99 % (chance 25 %)

The tower is that of tags_tiny:merged. It learns on in `describe`, and then stays as it is. A video is read as
two clips of four frames, a needle video of 32 frames as eight; HiCo merges each clip from 256 to 16 tokens. A
row holds two to three conversations that do not see each other.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.decoder.sizes import LanguageSize, Rotary
from ivjax.models.dialogue import DialogueSize, ProjectorSize
from ivjax.models.internvit import InternVitSize
from ivjax.stages.video_dialogue import Bucket, VideoDialogue

experiment = ix.Experiment(
    stage=VideoDialogue(
        DialogueSize(
            vision=InternVitSize(64, 3, 4, 256, patch=8, image=(64, 64), layer_scale=1.0),
            bridge=ProjectorSize(64, out=128, frame_tokens=4, image_tokens=4, heads=4, norm=True),
            language=LanguageSize(128, 3, 4, 2, 384, vocabulary=500, rotary=Rotary(10000.0)),
        ),
        buckets=(Bucket("packed", 240, clips=6), Bucket("long", 192, clips=8)),
    ),
    data=dp.Dialogues(
        corpora=(
            dp.Corpus("shards/demo_dialogues", weight=1.0),
            dp.Corpus("shards/demo_needles", weight=1.5, changes=("dialogue.seeing.rule.frames=32",)),
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
    batch=6,
    steps=1060,
    schedule=ix.FlooredCosine(peak=1.5e-3, warmup=40),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.05, clip=1.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    # The tower stays as it is: it already knows what the decoder has to put into words, and costs a third.
    trains=(ix.Trains("vision", 0.0),),
    init_from=("runs/dialogue_described",),
)

variants = {
    # Before it, as the recipes of the large models begin with captions: words, and where to look for them.
    "describe": (
        "stage.buckets=(Bucket('packed',240,clips=6),)",
        # The tower learns too: which colour belongs to which shape is more than its tags say.
        "trains=(Trains('vision',0.3),)",
        "data.corpora=(Corpus('shards/demo_descriptions'),)",
        "schedule.peak=2e-3",
        "steps=1200",
        "starts=(Starts('*kernel',2.0),)",
        "init_from=('vision=runs/tags_merged#encoder',)",
        "init_fresh=('bridge','language')",
    ),
    # As the recipes of the large models: short videos first, one clip of four frames each.
    "progressive": (
        "phases=(Phase('short',350,('data.fields.dialogue.seeing.rule=Intervals(4)',)),Phase('long',710))",
    ),
}
