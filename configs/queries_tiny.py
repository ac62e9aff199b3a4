"""VideoChat2's first stage in miniature: a small Q-Former learns from captions of the demo corpus.

Command   (the corpora of viclip_tiny, see there)
          ivjax train queries_tiny --workdir runs/queries_tiny
Hardware  two CPU cores, about three minutes, one of them to compile
Expect    at steps 20, 60, 100, 140 and 200 the sum of the losses is 9.5, 8.0, 7.4, 7.1 and 6.4: caption 5.4,
          3.9, 3.3, 3.1 and 2.4; vtc from log(32) = 3.5 to 3.4; vtm stays at 0.64, so pairs are hardly told
          apart in so few steps. On held-out clips it is 7.5 at step 100
"""

from ivjax import experiment as ix
from ivjax.data_pipelines import data_options as dp
from ivjax.models.qformer import QFormerSize
from ivjax.models.qformer.pretraining_size import QueryPretrainSize
from ivjax.models.umt import UmtSize
from ivjax.stages.query_pretraining import QueryPretraining

experiment = ix.Experiment(
    stage=QueryPretraining(
        QueryPretrainSize(
            UmtSize(width=64, depth=3, heads=4, mlp_width=192, image=(64, 64), table=(4, 4, 4)),
            QFormerSize(
                64,
                out=64,
                hidden=64,
                depth=4,
                heads=4,
                mlp_width=192,
                queries=4,
                extra_queries=0,
                vocabulary=400,
                places=48,
            ),
            embed=32,
        ),
        words=48,
        start=3,
    ),
    data=dp.Mixture(
        corpora=(dp.Corpus("shards/demo"),),
        eval_corpora=(dp.Corpus("shards/demo_held_out"),),
        # Left and right have a meaning here, so nothing is mirrored.
        fields={
            "video": dp.Frames(dp.Intervals(4)),
            "text": dp.Caption(dp.SentencePiece("shards/demo.model", 48)),
        },
    ),
    batch=32,
    steps=200,
    schedule=ix.FlooredCosine(peak=1e-3, warmup=20),
    optimizer=ix.AdamW(betas=(0.9, 0.999), epsilon=1e-8, decay=0.02, clip=1.0),
    dtype="float32",
    checkpoint=ix.Checkpointing(every=100, keep_last=1),
    log=ix.Logging(every=20),
)
