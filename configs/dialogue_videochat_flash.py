"""VideoChat-Flash, all four stages: the connector, short videos, short and long ones, larger pictures.

Command   ivjax train dialogue_videochat_flash:progressive --workdir runs/flash   (all, one after the other)
          ivjax train dialogue_videochat_flash:connector --workdir runs/flash_1   (or each by itself)
          ivjax train dialogue_videochat_flash:short --workdir runs/flash_2
          ivjax train dialogue_videochat_flash --workdir runs/flash_3             (the third)
          ivjax train dialogue_videochat_flash:high --workdir runs/flash_4
Hardware  the originals used 32 A100 for under an hour, two days, and twice two to three; never run here
Expect    the originals report 73.2 % on MVBench and 64.0 % on Video-MME after the third stage, 74.0 % and
          65.3 % after the fourth

The experiment itself is the third stage. Rates, batches, frames and what trains are those of the originals'
scripts, steps one epoch of the numbers of conversations that are told of their papers. Not confirmed: these
numbers, and the betas of AdamW. The originals allow 32,768 tokens; a video of 512 frames has 8,192 visual
tokens, so rows of 12,288 hold it and what is said about it. `packed` puts several conversations into a row.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.video_dialogue import Bucket, VideoDialogue

BATCH = 256
# Pairs; then images and short videos; then images, short and long videos; then a quarter of these.
CONNECTOR_STEPS = (481_000 + 558_000) // 512
SHORT_STEPS = (3_500_000 + 2_500_000) // BATCH
LONG_STEPS = (1_100_000 + 1_700_000 + 700_000) // BATCH
HIGH_STEPS = LONG_STEPS // 4

experiment = ix.Experiment(
    stage=VideoDialogue(
        DIALOGUES["videochat_flash_qwen2_7b_224"],
        buckets=(
            Bucket("long", 12288, clips=128),
            Bucket("middle", 5120, clips=48),
            Bucket("short", 2048, clips=16),
            # An image has up to 36 tiles, and most have few.
            Bucket("tiles", 4096, images=37),
            Bucket("image", 1536, images=10),
        ),
    ),
    data=dp.Dialogues(
        corpora=(dp.Corpus("shards/flash_sft"),),
        fields={
            "dialogue": dp.Turns(
                dp.QwenChat(),
                dp.ChatTokenizer("Qwen2-7B-Instruct"),
                dp.Seeing(
                    dp.ByDuration(512, local=4, least=64, lower=True),
                    clip_tokens=64,
                    image_tokens=64,
                    tiling=dp.Tiling("any", tiles=6, videos=False),
                ),
            )
        },
        pack=False,
    ),
    batch=BATCH,
    steps=LONG_STEPS,
    schedule=ix.FlooredCosine(peak=1e-5, floor=0.0, warmup=LONG_STEPS * 3 // 100),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.0, clip=1.0),
    accumulate=8,
    mesh=ix.MeshShape(data=1, fsdp=-1),
    remat="full",
    trains=(ix.Trains("vision", 0.2),),
    init_from=("runs/flash_2",),
)

IMAGES = "Bucket('tiles',4096,images=37),Bucket('image',1536,images=10)"
CONNECTOR = (
    "stage.buckets=(Bucket('video',512,clips=1),Bucket('image',512,images=1))",
    "data.corpora=(Corpus('shards/flash_pairs'),)",
    "data.fields.dialogue.style=ivjax.data_pipelines.dialogue.templates.Plain()",
    "data.fields.dialogue.seeing.rule=Segments(4)",
    "data.fields.dialogue.seeing.tiling=none",
    "batch=512",
    "accumulate=4",
    "trains=(Trains('vision',0.0),Trains('language',0.0))",
    "schedule.peak=1e-3",
    f"schedule.warmup={CONNECTOR_STEPS * 3 // 100}",
)
SHORT = (
    f"stage.buckets=(Bucket('video',1536,clips=2),{IMAGES})",
    "data.corpora=(Corpus('shards/flash_short'),)",
    "data.fields.dialogue.seeing.rule=ByDuration(8,local=4,least=4,lower=true)",
    f"schedule.warmup={SHORT_STEPS * 3 // 100}",
)
HIGH = (
    "stage.dialogue.vision.image=(448,448)",
    "trains=(Trains('vision',0.2),Trains('language',0.0))",
    f"schedule.warmup={HIGH_STEPS * 3 // 100}",
)
# What the first stage starts from: UMT-L, whose norm is part of the bridge here, and Qwen2.
START = (
    "init_from=('vision=umt_l16_chat.pth','language=Qwen2-7B-Instruct')",
    "init_fresh=('bridge',)",
)

variants = {
    "connector": (*CONNECTOR, *START, f"steps={CONNECTOR_STEPS}"),
    "short": (*SHORT, "init_from=('runs/flash_1',)", f"steps={SHORT_STEPS}"),
    "high": (*HIGH, "init_from=('runs/flash_3',)", f"steps={HIGH_STEPS}"),
    "progressive": (
        f"phases=(Phase('connector',{CONNECTOR_STEPS},{CONNECTOR}),Phase('short',{SHORT_STEPS},{SHORT}),"
        f"Phase('long',{LONG_STEPS}),Phase('high',{HIGH_STEPS},{HIGH}))",
        *START,
    ),
    # Eight conversations in a row, on average, and as many in a step as before.
    "packed": (
        "stage.buckets=(Bucket('packed',16384,clips=128,images=40),)",
        "data.pack=true",
        "batch=32",
        "accumulate=1",
    ),
    "qwen2_5_2b": (
        "stage.dialogue.language=qwen2_5_1_5b",
        "stage.dialogue.bridge.out=1536",
        "stage.dialogue.vision.image=(448,448)",
        "data.fields.dialogue.tokenizer.path=Qwen2.5-1.5B-Instruct",
    ),
}
