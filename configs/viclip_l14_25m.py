r"""ViCLIP-L/14 on clips and images, 25 million of WebVid-10M, CC3M and CC12M; otherwise as viclip_l14.

Command   ivjax train viclip_l14_25m --workdir runs/viclip_25m \
                data.mixtures.video.fields.text.tokenizer.path=bpe_simple_vocab_16e6.txt.gz \
                data.mixtures.image.fields.text.tokenizer.path=bpe_simple_vocab_16e6.txt.gz
Hardware  64 accelerators of 80 GB (the originals: 8 x 8 A100, 512 clips each); never run here
Expect    nothing has been trained with this file yet

The originals' simple_25m: each step is of clips or of images, in proportion to how many there are.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.configs.viclip_l14 import BATCH, EPOCHS
from ivjax.configs.viclip_l14 import experiment as viclip_l14
from ivjax.data_pipelines import data_options as dp

CLIPS = 25_000_000
EPOCH = CLIPS // BATCH


def read(frames: int, *corpora: str) -> dp.Mixture:
    """Clips of some frames with their captions; an image is a clip of one."""
    return dp.Mixture(
        corpora=tuple(dp.Corpus(f"shards/{name}") for name in corpora),
        fields={
            "video": dp.Frames(dp.Intervals(frames, original_draw=True), dp.TRAIN_STAGE2),
            "text": dp.Caption(dp.ClipBpe(length=32)),
        },
    )


experiment = replace(
    viclip_l14,
    data=dp.Media({"video": read(8, "webvid_10m"), "image": read(1, "cc3m", "cc12m")}),
    steps=EPOCHS * EPOCH,
    schedule=ix.FlooredCosine(peak=4e-4, warmup=EPOCH // 2),
)

variants = {"tuned_text": ("stage.train_text=true",)}
