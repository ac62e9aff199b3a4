r"""Stage 2 with sound in miniature, from a tiny stage 1: moving shapes that are heard, and captions.

Command   (the commands of stage1_tiny, for runs/stage1; then)
          ivjax data demo demo_av --clips 4000 --held-out 256 --sounds events
          ivjax data build demo_av/annotations.jsonl shards/demo_av --videos demo_av/videos \
                recipe.audio=true recipe.short_side=72 recipe.fps=4 recipe.encoding.preset=ultrafast
          ivjax data build demo_av/held_out.jsonl shards/demo_av_held_out --videos demo_av/videos \
                recipe.audio=true
          ivjax data tokenizer train shards/demo_av shards/demo_av.model --size 800
          ivjax train stage2_av_tiny --workdir runs/stage2_av_tiny
          ivjax eval runs/stage2_av_tiny --suite retrieval --data shards/demo_av_held_out \
                --rerank 16 --rerank-by match_and_cosine --match-weight 0.5
          ivjax train stage2_av_tiny:longer --workdir runs/stage2_av_longer
          ivjax eval runs/stage2_av_longer --suite zeroshot --attribute motion --data shards/demo_av_held_out
Hardware  two CPU cores; six minutes, and eleven for `longer`
Expect    loss 19 at step 20, 10 at step 300. Of held-out clips R@1 is 12 to 18 % over three seeds, each run
          twice, from text to video, 42 to 47 % to clips with their sound, 7 to 12 % to sounds (chance 0.4 %).
          Motions of clips with their sound are named for 65 to 78 %, from pictures alone for 10 to 14 %
          (chance 10 %). After `longer` R@1 is 31 to 35 %, and pictures alone name 15 to 25 % of the motions

Each motion has a sound of its own, and the pictures are those of the demo corpus without them. So `:seen`,
which hears nothing, tells what the sound is worth. `:told` compares clips that are heard with a text of what
is seen and heard. Of 800 pieces the tokenizer has whole words, and captions have half as many tokens as of
400: in runs like `:seen` the contrast was 2.7 at step 100, and 3.2 with 400. The audio tower starts from
nothing and is trained, where the released model has a frozen one. The vocabulary has one id more than the
tokenizer has pieces: it stands in place of hidden words.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.beats import BeatsSize
from ivjax.models.bert import FusionBertSize
from ivjax.models.internvideo2 import AlignedSize
from ivjax.stages.cross_modal import CrossModal, LossWeights

READER = dp.SentencePiece("shards/demo_av.model", 32)
HEARD = dp.CaptionPart("audio", "while {}", chance=0.5)

experiment = ix.Experiment(
    stage=CrossModal(
        vision=AlignedSize(
            width=64,
            depth=4,
            heads=4,
            mlp_width=256,
            pool_heads=4,
            pool_width=64,
            image=(56, 56),
            frames=4,
            layer_scale=0.1,
            images="table",
        ),
        text=FusionBertSize(
            width=96,
            depth=3,
            heads=4,
            mlp_width=384,
            out=64,
            context=32,
            vocabulary=801,
            places=32,
            fusion=1,
            seen=64,
            start=1,
            mask=800,
        ),
        # Ten seconds, as in the released model, in a quarter of its tokens.
        audio=BeatsSize(
            width=64,
            depth=2,
            heads=4,
            mlp_width=128,
            patch_width=64,
            patch=32,
            place_taps=16,
            place_groups=4,
            buckets=64,
            distance=200,
            gradient_decay=1.0,
        ),
        joint_width=64,
        weights=LossWeights(vtc=2.0, vtm=2.0, atc=0.6, avtc=0.3),
        mask=None,
        # Pairs that look alike are too hard for fusion layers that start from nothing.
        easy_negatives=1.0,
        drop_path=0.0,
        dropout=0.0,
        chunk=None,
        train_audio=True,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo_av"),),
        eval_corpora=(dp.Corpus("shards/demo_av_held_out"),),
        fields={
            "video": dp.Frames(dp.Intervals(4)),
            "audio": dp.Sound(),
            "text": dp.Caption(READER),
            # Read by the variant `told` alone.
            "told": dp.Caption(READER, mixer=dp.CaptionMixer((dp.CaptionPart("video"), HEARD))),
        },
        cache_gib=4,
    ),
    batch=64,
    steps=480,
    schedule=ix.FlooredCosine(peak=1e-3, warmup=20),
    optimizer=ix.AdamW(betas=(0.9, 0.98), epsilon=1e-8, decay=0.05, clip=3.0),
    dtype="float32",
    scan_layers=False,
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
    eval_loss=ix.EvalLoss(every=480, batches=2),
    starts=(ix.Starts("text/*kernel", 4.0),),
    init_from=("vision=runs/stage1#encoder",),
    init_fresh=("vision/img_pos_embed",),
)

variants = {
    # A thousand steps more, in which what is heard also meets what is seen: motions, without their names.
    "longer": (
        "init_from=('runs/stage2_av_tiny',)",
        "init_fresh=()",
        "starts=()",
        "stage.weights=LossWeights(vtc=2.0,vtm=2.0,atc=0.6,avtc=0.3,avc=1.0)",
        "steps=1000",
        "seed=1",
    ),
    "from_nothing": ("init_from=()", "init_fresh=()"),
    "seen": (
        "stage.audio=none",
        "stage.joint_width=none",
        "stage.weights=LossWeights(vtc=2.0,vtm=2.0)",
        "stage.train_audio=false",
    ),
    "told": ("stage.captions={'avtc':'told'}",),
}
