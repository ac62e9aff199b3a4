r"""Stage 2's 1B model fine-tuned for retrieval: MSR-VTT, or another set by its variant.

Command   ivjax train retrieval_stage2_1b --workdir runs/msrvtt data.fields.text.tokenizer.path=vocab.txt
          ivjax train retrieval_stage2_1b:didemo         the same on DiDeMo; also activitynet, lsmdc, msvd
Hardware  the originals used 4 GPUs, 8 clips each, for the 6B model; never run here
Expect    nothing has been trained with this file yet

As the originals fine-tune the 6B model: contrast and matching alone, at 5e-6, five epochs. Clips with several
captions stand in a record each; captions of one clip are positives of each other. The numbers of clips of the
sets are those of their usual training parts.
"""

from dataclasses import replace

from ivjax import experiment as ix
from ivjax.configs.stage2_1b import STAGE, read
from ivjax.configs.stage2_1b import experiment as stage2_1b
from ivjax.stages.cross_modal import LossWeights

EPOCHS, BATCH = 5, 32
CLIPS = {"msrvtt": 180_000, "didemo": 8_395, "activitynet": 10_009, "lsmdc": 101_055, "msvd": 48_774}

experiment = replace(
    stage2_1b,
    stage=replace(STAGE, weights=LossWeights(mlm=0.0)),
    data=read(4, "msrvtt_train"),
    batch=BATCH,
    steps=EPOCHS * CLIPS["msrvtt"] // BATCH,
    schedule=ix.FlooredCosine(peak=5e-6, warmup=CLIPS["msrvtt"] // BATCH),
    init_from=("runs/stage2_1b",),
    init_fresh=(),
)


def _set(name: str, words: int) -> tuple[str, ...]:
    """Another set, whose texts have so many tokens."""
    return (
        f"data.corpora.0.path=shards/{name}_train",
        f"data.fields.text.tokenizer.length={words}",
        f"stage.text.context={words}",
        f"steps={EPOCHS * CLIPS[name] // BATCH}",
        f"schedule.warmup={CLIPS[name] // BATCH}",
    )


variants = {
    "didemo": _set("didemo", 64),
    "activitynet": _set("activitynet", 150),
    "lsmdc": _set("lsmdc", 96),
    "msvd": _set("msvd", 64),
}
