r"""ViCLIP-B/16 on InternVid-FLT: eight frames, a tenth of the patches seen, words frozen as CLIP left them.

Command   ivjax train viclip_b16 --workdir runs/viclip \
                data.fields.text.tokenizer.path=bpe_simple_vocab_16e6.txt.gz
          ivjax train viclip_b16:unmask --workdir runs/viclip_unmask
Hardware  64 accelerators (512 clips each; the originals do not say how many); never run here
Expect    the originals report 58.5 % zero-shot on Kinetics-400; nothing has been trained with this file yet

init_from is CLIP ViT-B/16: OpenAI's own ViT-B-16.pt, a state dict of it, or the Hub's folder
clip-vit-base-patch16 as it is. The originals then go on without a mask for half an epoch, at a fiftieth of
the rate, 32 clips on each accelerator: `unmask` does it with the run in runs/viclip, `two_phases` does both
in one run.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.viclip import TextSize, VisionSize
from ivjax.stages.dual_encoder import DualEncoder

CLIPS, EPOCHS, BATCH = 10_000_000, 10, 64 * 512
EPOCH = CLIPS // BATCH

experiment = ix.Experiment(
    stage=DualEncoder(vision=VisionSize.PRESETS["B16"], text=TextSize.PRESETS["B"], mask=0.9, drop_path=0.1),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/internvid_flt"),),
        fields={
            "video": dp.Frames(dp.Intervals(8, original_draw=True), dp.TRAIN_STAGE2),
            "text": dp.Caption(dp.ClipBpe(length=32)),
        },
    ),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.FlooredCosine(peak=2e-4, warmup=EPOCH // 2),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.2, clip=None),
    seed=42,
    mesh=ix.MeshShape(data=-1),
    remat="none",
    init_from=("clip_vit_b16.pt",),
    init_fresh=("temperature", "vision/temporal_embed"),
)

# The second phase: half an epoch of whole clips, a fifth of it to warm up.
UNMASK_STEPS = CLIPS // 2 // 2048
UNMASK = ("stage.mask=0", "batch=2048", "schedule.peak=4e-6", f"schedule.warmup={UNMASK_STEPS // 5}")

variants = {
    "unmask": (*UNMASK, f"steps={UNMASK_STEPS}", "init_from=('runs/viclip',)", "init_fresh=()"),
    "two_phases": (f"phases=(Phase('masked',{EPOCHS * EPOCH}),Phase('unmasked',{UNMASK_STEPS},{UNMASK}))",),
}
