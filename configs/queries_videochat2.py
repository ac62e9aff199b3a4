"""VideoChat2's first stage: a Q-Former learns from captions of clips and images, the vision tower is frozen.

Command   ivjax train queries_videochat2 --workdir runs/videochat2_1 \
                data.mixtures.video.fields.text.tokenizer.path=vocab.txt \
                data.mixtures.image.fields.text.tokenizer.path=vocab.txt
Hardware  the originals used 32 GPUs, 128 clips or images each; never run here
Expect    nothing has been trained with this file yet

Clips (WebVid-10M) and images (CC-14M) take turns, one kind a step. The three losses count alike: contrast, in
which all captions of a clip are right; matching, with hard negatives of the whole batch (the originals': of a
device's part); and captions word by word. The Q-Former starts from BERT-base: words and queries
read its layers, with MLPs that begin as copies. Cross-attention, queries and heads are drawn (the originals
also read BERT's head of words), and so is the last of the words, [DEC], which starts a caption.
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.qformer import QFormerSize
from ivjax.models.qformer.pretraining_size import QueryPretrainSize
from ivjax.models.umt import UmtSize
from ivjax.stages.query_pretraining import QueryPretraining

CLIPS, EPOCHS, BATCH = 10_700_000 + 14_000_000, 10, 32 * 128
EPOCH = CLIPS // BATCH
UMT = UmtSize.PRESETS["L16_chat"]

experiment = ix.Experiment(
    stage=QueryPretraining(
        QueryPretrainSize(UMT, QFormerSize(UMT.width, out=768, extra_queries=0, dropout=0.1, drop_path=0.2)),
        pairs=3 * 512,
    ),
    data=dp.Media(
        {
            "video": dp.Mixture(
                corpora=(dp.Corpus("shards/webvid_10m"),),
                fields={
                    "video": dp.Frames(dp.Intervals(4, original_draw=True), dp.TRAIN_STAGE2),
                    "text": dp.Caption(dp.BertWordPiece(length=32)),
                },
            ),
            "image": dp.Mixture(
                corpora=(dp.Corpus("shards/cc_14m"),),
                fields={
                    "video": dp.Frames(dp.Intervals(1, original_draw=True), dp.TRAIN_STAGE2),
                    "text": dp.Caption(dp.BertWordPiece(length=32)),
                },
            ),
        }
    ),
    batch=BATCH,
    steps=EPOCHS * EPOCH,
    schedule=ix.FlooredCosine(peak=1e-4, floor=0.01, warmup=EPOCH // 5),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.02, clip=None),
    seed=42,
    mesh=ix.MeshShape(data=-1),
    remat="full",
    trains=(ix.Trains("vision", 0.0),),
    init_from=("vision=umt_l16.pth", "bridge=bert-base-uncased"),
    init_fresh=(
        "bridge/cross",
        "bridge/query_tokens",
        "bridge/input_norm",
        "heads",
        "time_embed",
        "temperature",
    ),
)
