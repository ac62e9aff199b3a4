r"""Stage 2 of InternVideo2-6B: clips with their sound against captions that tell of both.

Command   ivjax train stage2_6b --workdir runs/stage2_6b \
                data.mixtures.audio_video.fields.text.tokenizer.path=vocab.txt \
                data.mixtures.image.fields.text.tokenizer.path=vocab.txt
Hardware  the originals used 256 GPUs, 64 clips each; never run here
Expect    the originals report t2v R@1 55.9 % on MSR-VTT zero-shot; nothing has been trained with it yet

The originals' configuration names no clips with sound, and their reader of them is switched off as published;
name your own shards. Captions that tell of pictures, sound and speech are the captions of a record; where it
has one of each kind instead, `:fused` makes a text of them. BEATs is frozen. A clip without sound has zeros
for it, as in the originals.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.beats import BeatsSize
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.stages.cross_modal import CrossModal, LossWeights

CLIPS, IMAGES, EPOCHS, BATCH = 2_500_000, 3_000_000, 5, 256 * 64
EPOCH = CLIPS // BATCH + IMAGES // BATCH
READER = dp.BertWordPiece(length=40)


def read(frames: int, corpus: str, sound: bool = False) -> dp.Mixture:
    """Clips of some frames with their captions, and maybe their sound."""
    fields = {
        "video": dp.Frames(dp.Intervals(frames, original_draw=True), dp.TRAIN_STAGE2),
        "text": dp.Caption(READER),
    }
    heard = {"audio": dp.Sound()} if sound else {}
    return dp.Mixture(corpora=(dp.Corpus(f"shards/{corpus}"),), fields={**fields, **heard})


experiment = ix.Experiment(
    stage=CrossModal(
        vision=AlignedSize.PRESETS["6B_stage2"],
        text=replace(FusionBertSize.PRESETS["large"], out=768, context=40, seen=768),
        audio=BeatsSize.PRESETS["iter3"],
        joint_width=768,
        weights=LossWeights(avtc=1.0, avtm=1.0, avmlm=1.0),
        drop_path=0.3,
    ),
    data=dp.Media({"audio_video": read(4, "clips_with_sound", sound=True), "image": read(1, "cc3m")}),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.FlooredCosine(peak=5e-5, warmup=EPOCH),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.05, clip=3.0),
    seed=42,
    mesh=ix.MeshShape(data=-1, fsdp=32),
    remat="full",
    init_from=("vision=6B_pretrain.pth#encoder", "text=bert-large-uncased", "audio=beats.pth"),
    init_fresh=(
        *("temperature", "vision_proj", "audio_proj", "both_proj", "video_match", "both_match"),
        *("see", "hear", "text/proj", "text/cross"),
    ),
)

variants = {
    "as_released": ("stage.group=64", f"stage.contrast.gather_scale={1 / 256}"),
    "fused": ("data.mixtures.audio_video.fields.text.mixer=CaptionMixer()",),
}
