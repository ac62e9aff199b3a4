"""InternVideo2-Chat: InternVideo2-1B, a Q-Former and Mistral-7B learn from dialogues, with a LoRA.

Command   ivjax train dialogue_internvideo2_chat --workdir runs/chat 'data.corpora=(Corpus("shards/mine"),)'
          ivjax train dialogue_internvideo2_chat:internlm2_5 --workdir runs/chat   (with InternLM2.5-7B-chat)
Hardware  never run here
Expect    nothing has been trained with this file

Not confirmed: all of it but the model. No recipe of InternVideo2-Chat is public; the numbers are those of
VideoChat2's third stage with Mistral, whose code its authors point to. It starts from the released chat
model, so that a corpus of your own continues what is there.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.dialogue.presets import DIALOGUES
from ivjax.stages.video_dialogue import Bucket, VideoDialogue

BATCH = 32 * 4
STEPS, EPOCH = 3 * 2_000_000 // BATCH, 2_000_000 // BATCH

experiment = ix.Experiment(
    stage=VideoDialogue(
        DIALOGUES["internvideo2_chat_8b"],
        # 512 words and 96 visual tokens.
        buckets=(Bucket("video", 640, clips=1), Bucket("image", 640, images=1)),
        question=512,
    ),
    data=dp.Dialogues(
        corpora=(dp.Corpus("shards/dialogues"),),
        fields={
            "dialogue": dp.Turns(
                dp.VideoChat2("mistral"),
                dp.ChatTokenizer("InternVideo2-Chat-8B"),
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
    init_from=("InternVideo2-Chat-8B",),
)

variants = {
    "internlm2_5": (
        "stage.dialogue.language=internlm2_5_7b",
        "stage.dialogue.language.lora=Lora(dropout=0.1)",
        "data.fields.dialogue.tokenizer.path=InternVideo2_Chat_8B_InternLM2_5",
        "init_from=('InternVideo2_Chat_8B_InternLM2_5',)",
    ),
    # The language model learns too, without a LoRA beside it.
    "whole": ("stage.dialogue.language.lora=none", "trains=()"),
}
