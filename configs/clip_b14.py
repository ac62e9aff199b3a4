r"""InternVideo2-CLIP-B/14: a distilled encoder beside MobileCLIP's text tower.

Command   ivjax train clip_b14 --workdir runs/clip_b14 \
                data.mixtures.video.fields.text.tokenizer.path=bpe_simple_vocab_16e6.txt.gz \
                data.mixtures.image.fields.text.tokenizer.path=bpe_simple_vocab_16e6.txt.gz
          ivjax train clip_b14:S14              the same of S14; also L14
Hardware  the originals used 16 GPUs, 256 clips each; never run here
Expect    nothing has been trained with this file yet

Only the pooling, the layer behind it and the temperature are trained. The vision tower comes from the
distilled classifier of K710, the text tower from MobileCLIP-B (LT).
"""

from dataclasses import replace

from ivjax.configs.clip_1b import TRAINED, media, only
from ivjax.configs.clip_1b import experiment as clip_1b
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo2 import AlignedSize
from ivjax.models.iv2clip import MobileTextSize
from ivjax.stages.dual_encoder import DualEncoder

experiment = replace(
    clip_1b,
    stage=DualEncoder(
        vision=AlignedSize.PRESETS["B14_clip"],
        text=MobileTextSize.PRESETS["mobileclip_b"],
        mask=0.0,
        drop_path=0.0,
    ),
    data=media(dp.ClipBpe(length=77)),
    trains=only(*TRAINED, "vision/align"),
    init_from=("vision=B14_ft_k710_f8.pth#encoder", "text=mobileclip_blt.pt"),
    init_fresh=("temperature", "vision/align"),
)


def _other(name: str) -> tuple[str, ...]:
    size, fields = AlignedSize.PRESETS[f"{name}_clip"], ("width", "depth", "heads", "mlp_width")
    return (
        *(f"stage.vision.{field}={getattr(size, field)}" for field in fields),
        f"init_from=('vision={name}_ft_k710_f8.pth#encoder','text=mobileclip_blt.pt')",
    )


variants = {"S14": _other("S14"), "L14": _other("L14")}
