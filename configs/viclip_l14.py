r"""ViCLIP-L/14 on InternVid-FLT and WebVid-10M: eight frames, a tenth of the patches seen, frozen words.

Command   ivjax train viclip_l14 --workdir runs/viclip \
                data.fields.text.tokenizer.path=bpe_simple_vocab_16e6.txt.gz
          ivjax train viclip_l14:flt --workdir runs/viclip_flt      (other corpora: the variants below)
          ivjax train viclip_l14:unmask --workdir runs/viclip_unmask
Hardware  64 accelerators of 80 GB (the originals: 8 x 8 A100, 512 clips each); never run here
Expect    the originals report 64.8 % zero-shot on Kinetics-400 for InternVid-FLT alone; nothing has been
          trained with this file yet

init_from is CLIP ViT-L/14: OpenAI's own ViT-L-14.pt, a state dict of it, or the Hub's folder
clip-vit-large-patch14 as it is. The originals then go on without a mask for half an epoch, at a hundredth of
the rate, 32 clips on each accelerator: `unmask` does it with the run in runs/viclip, `two_phases` does both
in one run.
`tuned_text` trains the words as well; it combines with any of the corpora: viclip_l14:webvid+tuned_text.
That 200 million clips are also read ten times is a guess from the number of the originals' last checkpoint.

Of the originals' experiments, `_cos` and `_do01` (cosine loss, dropout of the image tower) cannot run as
published: their model computes no cosine loss and does not hand on the dropout.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.viclip import TextSize, VisionSize
from ivjax.stages.dual_encoder import DualEncoder

CLIPS, EPOCHS, BATCH = 20_000_000, 10, 64 * 512
EPOCH = CLIPS // BATCH

experiment = ix.Experiment(
    stage=DualEncoder(vision=VisionSize.PRESETS["L14"], text=TextSize.PRESETS["L"], mask=0.9, drop_path=0.1),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/internvid_flt"), dp.Corpus("shards/webvid_10m")),
        fields={
            "video": dp.Frames(dp.Intervals(8, original_draw=True), dp.TRAIN_STAGE2),
            "text": dp.Caption(dp.ClipBpe(length=32)),
        },
    ),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.FlooredCosine(peak=4e-4, warmup=EPOCH // 2),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.2, clip=None),
    seed=42,
    mesh=ix.MeshShape(data=-1),
    remat="full",
    init_from=("clip_vit_l14.pt",),
    init_fresh=("temperature", "vision/temporal_embed"),
)


def corpus(name: str, clips: int) -> tuple[str, ...]:
    """One corpus instead of two, for as many epochs."""
    epoch = clips // BATCH
    return (
        f"data.corpora=(Corpus('shards/{name}'),)",
        f"steps={EPOCHS * epoch}",
        f"schedule.warmup={epoch // 2}",
    )


def whole_clips(steps: int) -> tuple[str, ...]:
    """The second phase: no mask, a fifth of the steps to warm up."""
    return ("stage.mask=0", "batch=2048", "schedule.peak=4e-6", f"schedule.warmup={steps // 5}")


UNMASK, UNMASK_FLT = CLIPS // 2 // 2048, 10_000_000 // 2 // 2048
FROM_RUN = ("init_from=('runs/viclip',)", "init_fresh=()")
FLT = corpus("internvid_flt", 10_000_000)

variants = {
    "flt": FLT,
    "flt_unmask": (*FLT, *whole_clips(UNMASK_FLT), f"steps={UNMASK_FLT}", *FROM_RUN),
    "webvid": corpus("webvid_10m", 10_700_000),
    "unfiltered_10m": corpus("internvid_10m", 10_000_000),
    "unfiltered_200m": corpus("internvid_200m", 200_000_000),
    "tuned_text": ("stage.train_text=true",),
    "unmask": (*whole_clips(UNMASK), f"steps={UNMASK}", *FROM_RUN),
    "two_phases": (
        f"phases=(Phase('masked',{EPOCHS * EPOCH}),Phase('unmasked',{UNMASK},{whole_clips(UNMASK)}))",
    ),
}
