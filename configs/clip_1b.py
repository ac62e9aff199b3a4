r"""InternVideo2-CLIP-1B: the pooling of stage 2's encoder learns the space of InternVL-C's language model.

Command   ivjax train clip_1b --workdir runs/clip_1b \
                data.mixtures.video.fields.text.tokenizer.path=tokenizer.model \
                data.mixtures.image.fields.text.tokenizer.path=tokenizer.model
          ivjax train clip_1b:6B               the same of the 6B encoder, whose steps and drop path differ
Hardware  the originals used 16 GPUs, 256 clips each (6B: 128); never run here
Expect    the originals report 73.1 % zero-shot on Kinetics-400; nothing has been trained with this file yet

Only the pooling and the temperature are trained. The three sources are read in this order: stage 2's vision
tower, whose table of 4 frames is resized to 8, and the text tower in InternVL-C's file, with its LoRA.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import AlignedSize
from ivjax.models.iv2clip import LanguageTextSize
from ivjax.stages.dual_encoder import DualEncoder

CLIPS, EPOCHS, BATCH = 25_000_000, 3, 16 * 256
EPOCH = CLIPS // BATCH
TRAINED = ("vision/clip_projector", "temperature")


def read(frames: int, tokenizer: dp.SentencePiece | dp.ClipBpe, *corpora: str) -> dp.Mixture:
    """Clips of some frames with their captions; an image is a clip of one."""
    return dp.Mixture(
        corpora=tuple(dp.Corpus(f"shards/{name}") for name in corpora),
        fields={
            "video": dp.Frames(dp.Intervals(frames, original_draw=True), dp.TRAIN_STAGE2),
            "text": dp.Caption(tokenizer),
        },
    )


def media(tokenizer: dp.SentencePiece | dp.ClipBpe) -> dp.Media:
    """The 25 million clips and images of the originals."""
    images = "cc3m", "coco", "vg", "sbu", "cc12m"
    return dp.Media({"video": read(8, tokenizer, "webvid_10m"), "image": read(1, tokenizer, *images)})


def only(*patterns: str) -> tuple[ix.Trains, ...]:
    """Trains some parameters, and freezes the others."""
    return (*(ix.Trains(pattern, 1.0) for pattern in patterns), ix.Trains("*", 0.0))


experiment = ix.Experiment(
    stage=DualEncoder(
        vision=AlignedSize.PRESETS["1B_clip"],
        text=LanguageTextSize.PRESETS["internvl_c"],
        mask=0.0,
        drop_path=0.3,
    ),
    data=media(dp.SentencePiece(prefix="summarize:")),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.FlooredCosine(peak=4e-4, warmup=int(0.6 * EPOCH)),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.2, clip=None),
    seed=42,
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="full",
    trains=only(*TRAINED),
    init_from=("vision=InternVideo2-stage2_1b-224p-f4.pt", "text=internvl_c_13b_224px.pth"),
    init_fresh=("temperature",),
)

variants = {
    "6B": (
        "stage.vision.width=3200",
        *("stage.vision.depth=48", "stage.vision.heads=25", "stage.vision.mlp_width=12800"),
        *("stage.drop_path=0.35", f"batch={BATCH // 2}", f"steps={2 * EPOCH}"),
        f"schedule.warmup={int(0.4 * EPOCH)}",
        "init_from=('vision=internvideo2-s2_6b-224p-f4.pt','text=internvl_c_13b_224px.pth')",
    ),
}
