"""Fine-tuning of InternVideo2.5 on dialogues about videos, from its base with HiCo: 16 tokens a frame.

Command   ivjax train dialogue_internvideo2_5 --workdir runs/chat 'data.corpora=(Corpus("shards/mine"),)' \
                data.fields.dialogue.tokenizer.path=InternVL_2_5_HiCo_R16
          ivjax train dialogue_internvideo2_5:r64 --workdir runs/chat_r64     (64 tokens a frame)
          ivjax train dialogue_internvideo2_5:packed --workdir runs/chat      (several conversations in a row)
Hardware  the originals used 32 A100, one conversation each and 4 micro-batches; never run here. More devices
          than 32 need fewer micro-batches, and more than 128 need mesh.context (docs/recipes.md)
Expect    nothing has been trained with this file; the base answers 74.0 % of MVBench and 64.9 % of Video-MME

A video is read at about one frame a second, 64 to 256 frames; 256 are 4,096 visual tokens, and some 1,900 of
`Frame17: <img>...</img>`. Buckets group conversations by length, as the originals do. All parts train, the
vision tower at a fifth of the rate. `steps` is one epoch of 100,000 conversations; give your own number. The
numbers are those of the originals' script. Not confirmed by it: the betas of AdamW (its library's defaults
here) and the template, which is that of the released chat models.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.video_dialogue import Bucket, VideoDialogue

CONVERSATIONS, BATCH = 100_000, 128
STEPS = CONVERSATIONS // BATCH

experiment = ix.Experiment(
    stage=VideoDialogue(
        DIALOGUES["internvideo2_5_chat_8b"],
        buckets=(
            Bucket("long", 8192, clips=64),
            Bucket("middle", 4096, clips=32),
            Bucket("short", 2048, clips=16),
        ),
    ),
    data=dp.Dialogues(
        corpora=(dp.Corpus("shards/dialogues"),),
        fields={
            "dialogue": dp.Turns(
                dp.InternVl("internvl2_5"),
                dp.ChatTokenizer("InternVL_2_5_HiCo_R16", visual=92546),
                dp.Seeing(dp.ByDuration(256, local=8, least=64), clip_tokens=64),
            )
        },
        pack=False,
    ),
    batch=BATCH,
    steps=STEPS,
    schedule=ix.FlooredCosine(peak=1e-5, floor=0.0, warmup=STEPS * 3 // 100),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=1.0),
    seed=42,
    accumulate=4,
    mesh=ix.MeshShape(data=1, fsdp=-1),
    remat="full",
    trains=(ix.Trains("vision", 0.2),),
    init_from=("InternVL_2_5_HiCo_R16",),
)

# A row holds four conversations of short videos, or one of a long one.
ROWS = CONVERSATIONS // 4 // BATCH

variants = {
    # That a clip of the R64 files has 256 tokens follows from their name alone.
    "r64": (
        "stage.dialogue.bridge.frame_tokens=64",
        "stage.dialogue.bridge.image_tokens=64",
        "stage.buckets=(Bucket('long',20480,clips=64),Bucket('middle',10240,clips=32),"
        "Bucket('short',5120,clips=16))",
        "data.fields.dialogue.tokenizer.path=InternVL_2_5_HiCo_R64",
        "data.fields.dialogue.seeing.clip_tokens=256",
        "init_from=('InternVL_2_5_HiCo_R64',)",
    ),
    # As the originals' variant: rows of 8,192 tokens, and 128 of them in a step. Four short videos have more
    # clips than a long one.
    "packed": (
        "stage.buckets=(Bucket('packed',8192,clips=80),)",
        "data.pack=true",
        f"steps={ROWS}",
        f"schedule.warmup={ROWS * 3 // 100}",
    ),
    # The words and the clips of a row are split over four devices.
    "context": ("mesh.context=4",),
}
