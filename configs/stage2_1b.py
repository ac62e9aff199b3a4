r"""Stage 2 of InternVideo2-1B: clips and images against their captions, told apart in pairs, words guessed.

Command   ivjax train stage2_1b --workdir runs/stage2_1b \
                data.mixtures.video.fields.text.tokenizer.path=vocab.txt \
                data.mixtures.image.fields.text.tokenizer.path=vocab.txt
Hardware  the originals used 64 GPUs, 64 clips each; never run here
Expect    the originals report t2v R@1 51.9 % on MSR-VTT zero-shot; nothing has been trained with it yet

vision comes from stage 1 (its table of 8 frames is resized to 4), text from bert-large-uncased. The corpora
are the example list of the originals, CC3M and WebVid of 2.5 million; the paper trains on 25.5 million.
Negatives are hard ones of the whole batch here; `as_released` draws them among the 64 rows of a device, and
weighs the contrast as the originals' gather does, by 1/64. `two_phases` trains the joints first.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.stages.cross_modal import CrossModal

CLIPS, IMAGES, EPOCHS, BATCH = 2_500_000, 3_000_000, 10, 64 * 64
EPOCH = CLIPS // BATCH + IMAGES // BATCH


def read(frames: int, *corpora: str) -> dp.Mixture:
    """Clips of some frames with their captions; an image is a clip of one."""
    return dp.Mixture(
        corpora=tuple(dp.Corpus(f"shards/{name}") for name in corpora),
        fields={
            "video": dp.Frames(dp.Intervals(frames, original_draw=True), dp.TRAIN_STAGE2),
            "text": dp.Caption(dp.BertWordPiece()),
        },
    )


STAGE = CrossModal(
    vision=AlignedSize.PRESETS["1B_stage2"], text=FusionBertSize.PRESETS["large"], drop_path=0.25
)

experiment = ix.Experiment(
    stage=STAGE,
    data=dp.Media({"video": read(4, "webvid_2_5m"), "image": read(1, "cc3m")}),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.FlooredCosine(peak=5e-5, warmup=EPOCH),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.05, clip=3.0),
    seed=42,
    mesh=ix.MeshShape(data=-1, fsdp=8),
    remat="full",
    init_from=("vision=1B_pretrain.pth#encoder", "text=bert-large-uncased"),
    init_fresh=(
        *("temperature", "vision/img_pos_embed", "vision_proj", "video_match"),
        *("text/proj", "text/cross"),
    ),
)

_JOINTS = tuple(f"Trains('{name}',1.0)" for name in ("*_proj", "*_match", "text/cross", "text/proj"))

variants = {
    "as_released": ("stage.group=64", f"stage.contrast.gather_scale={1 / 64}"),
    "two_phases": (
        f"phases=(Phase('joints',{EPOCH},(\"trains=({','.join(_JOINTS)},Trains('temperature',1.0),"
        f"Trains('*',0.0))\",)),Phase('all',{(EPOCHS - 1) * EPOCH}))",
    ),
}
