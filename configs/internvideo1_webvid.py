"""InternVideo 1's multimodal branch on WebVid-10M: contrast, and captions from a decoder.

Command   ivjax train internvideo1_webvid --workdir runs/internvideo1
          ivjax train internvideo1_webvid:l14 --workdir runs/internvideo1_l14
          ivjax eval runs/internvideo1 --suite retrieval --data msrvtt_1ka --videos msrvtt
Hardware  never run here
Expect    nothing has been trained with this file yet

The originals published no script of the final training, of 14 million clips (L/14), only configs that look
like ablations: these are their numbers. The words are frozen in them; stage.train_text=true trains them as
well. init_from is OpenAI's CLIP for both towers.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.internvideo1 import CaptioningSize
from ivjax.stages.internvideo1.captioned_contrast import CaptionedContrast

CLIPS, EPOCHS, BATCH = 10_700_000, 10, 1024
SIZE = CaptioningSize.PRESETS["B16"]

experiment = ix.Experiment(
    stage=CaptionedContrast(SIZE.vision, SIZE.text, SIZE.decoder, temperature=0.01, train_text=False),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/webvid_10m"),),
        fields={
            "video": dp.Frames(dp.Intervals(8), replace(dp.TRAIN_STAGE2, flip=0.0)),
            "text": dp.Caption(dp.ClipBpe(length=77)),
        },
    ),
    batch=BATCH,
    steps=EPOCHS * (CLIPS // BATCH),
    schedule=ix.WarmupCosine(peak=1e-5, warmup=4000),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-6, decay=0.2, clip=None),
    mesh=ix.MeshShape(data=-1),
    remat="dots",
    init_from=("vision=ViT-B-16.pt", "text=ViT-B-16.pt#text"),
    init_fresh=(
        "vision/globals",
        "vision/video_token",
        "vision/balance",
        "caption_decoder",
        "logit_scale",
    ),
)

LARGE = CaptioningSize.PRESETS["L14"]
variants = {
    "l14": (
        "stage.vision=L14",
        f"stage.vision.projection={LARGE.text.out}",
        "stage.text=L",
        "stage.text.context=77",
        f"stage.decoder.heads={LARGE.decoder.heads}",
        "init_from=('vision=ViT-L-14.pt','text=ViT-L-14.pt#text')",
    ),
}
