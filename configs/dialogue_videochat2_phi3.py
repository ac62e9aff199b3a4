"""VideoChat2 with Phi-3-mini: second and third stage, and HD, after the first one of queries_videochat2.

Command   ivjax train dialogue_videochat2_phi3:progressive --workdir runs/videochat2  (2, 3, HD in one run)
          ivjax train dialogue_videochat2_phi3:stage2 --workdir runs/videochat2_2     (or each by itself)
          ivjax train dialogue_videochat2_phi3 --workdir runs/videochat2_3            (the third)
          ivjax train dialogue_videochat2_phi3:hd --workdir runs/videochat2_hd
Hardware  the originals used 32 GPUs; never run here
Expect    the originals report 55.1 % on MVBench after the third stage

The experiment itself is the third stage: all but the language model's own weights trains, which have a LoRA
beside them. Rates, frames, epochs and batches (8 conversations on each of 32 GPUs) are the originals'. Each
conversation has a row of its own; `packed` puts several into one. Not confirmed: crops and flips of the
third stage (those of the second here), the sizes of the corpora, and all of HD, whose numbers are those
of Mistral. The prompts of the second stage are part of the corpus here.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.video_dialogue import Bucket, VideoDialogue

BATCH = 32 * 8
STEPS, EPOCH = 3 * 2_000_000 // BATCH, 2_000_000 // BATCH

experiment = ix.Experiment(
    stage=VideoDialogue(
        DIALOGUES["videochat2_phi3_mini"],
        # 512 words and 96 visual tokens.
        buckets=(Bucket("video", 640, clips=1), Bucket("image", 640, images=1)),
        question=512,
    ),
    data=dp.Dialogues(
        corpora=(dp.Corpus("shards/videochat2_instruction_new"),),
        fields={
            "dialogue": dp.Turns(
                dp.VideoChat2("mistral"),
                dp.ChatTokenizer("Phi-3-mini-128k-instruct"),
                dp.Seeing(
                    dp.Intervals(8, original_draw=True),
                    clip_tokens=96,
                    image_tokens=96,
                    augment=dp.TRAIN_STAGE2,
                ),
                shuffle=True,
                question=dp.BertWordPiece(length=512, vocabulary_size=30522),
                question_end=True,
            )
        },
        pack=False,
    ),
    batch=BATCH,
    steps=STEPS,
    schedule=ix.FlooredCosine(peak=2e-5, floor=0.25, warmup=EPOCH * 3 // 5),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.02, clip=None),
    seed=42,
    mesh=ix.MeshShape(data=1, fsdp=-1),
    remat="full",
    trains=(ix.Trains("language/lora", 1.0), ix.Trains("language", 0.0)),
    # The second stage has no parts that read questions, so they come from the first.
    init_from=("bridge=runs/videochat2_1#bridge", "runs/videochat2_2"),
    init_fresh=("language/lora",),
)

# Pairs of a clip or an image and its caption, WebVid-10M and CC-3M, 16 on each of 32 GPUs.
STEPS_2 = (10_700_000 + 3_000_000) // 512
STAGE2 = (
    "stage.dialogue.vision.frames=4",
    "stage.dialogue.bridge.reads_text=false",
    "stage.dialogue.language.lora=none",
    "stage.question=0",
    "stage.buckets=(Bucket('video',160,clips=1),Bucket('image',160,images=1))",
    "data.corpora=(Corpus('shards/webvid10m_cc3m'),)",
    "data.fields.dialogue.seeing.rule=Intervals(4,original_draw=true)",
    "data.fields.dialogue.question=none",
    "batch=512",
    "trains=(Trains('language',0.0),)",
    "schedule.peak=1e-4",
    "schedule.floor=0.01",
    f"schedule.warmup={STEPS_2 // 5}",
)
FROM_STAGE1 = (
    "init_from=('vision=runs/videochat2_1#vision','bridge=runs/videochat2_1#bridge',"
    "'language=Phi-3-mini-128k-instruct')",
)
# Six tiles and the whole, 96 tokens each; 3 conversations on each of 32 GPUs.
STEPS_HD = 2_000_000 // 96
HD = (
    "stage.buckets=(Bucket('video',1216,clips=7),Bucket('image',1216,images=7))",
    "data.corpora=(Corpus('shards/videochat2_instruction_hd'),)",
    "data.fields.dialogue.seeing.tiling=Tiling('hd',tiles=6)",
    "batch=96",
    "schedule.peak=1e-5",
    "schedule.floor=0.01",
    "schedule.warmup=0",
)

variants = {
    "stage2": (
        *STAGE2,
        *FROM_STAGE1,
        "init_fresh=('bridge/proj','bridge/extra_query_tokens')",
        f"steps={STEPS_2}",
    ),
    "hd": (*HD, "init_from=('runs/videochat2_3',)", "init_fresh=()", f"steps={STEPS_HD}"),
    "progressive": (
        f"phases=(Phase('stage2',{STEPS_2},{STAGE2}),Phase('stage3',{STEPS}),Phase('hd',{STEPS_HD},{HD}))",
        *FROM_STAGE1,
        "init_fresh=('bridge/proj','bridge/extra_query_tokens','language/lora')",
    ),
    # Some eight conversations in a row, and as many in a step.
    "packed": (
        "stage.buckets=(Bucket('video',2048,clips=8),Bucket('image',2048,images=8))",
        "data.pack=true",
        "batch=32",
    ),
}
