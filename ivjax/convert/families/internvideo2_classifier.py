"""The classifiers that were fine-tuned from InternVideo2 encoders, and probes of them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.convert.engine.family import Family, FixtureRun
from ivjax.convert.engine.fits import Change, Fitting
from ivjax.convert.engine.rows import Row
from ivjax.convert.families.internvideo2 import encoder_size, trunk
from ivjax.convert.families.layers import linear, norm
from ivjax.convert.families.layerwise.encoders_layers import embedded
from ivjax.convert.formats.tensors import Shape
from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models.classifier import ExtraMlp
from ivjax.models.classifier_size import ClassifierSize, MergeNorm
from ivjax.models.internvideo2.classifiers import CLASSIFIERS
from ivjax.models.layers import layer_norm


def other_classes(have: Shape, want: Shape, fitting: Fitting) -> Change | None:
    """Rule of a head for other classes: none fits by itself."""
    if not have:
        return None  # one number is no head
    ways = "FILE?head=none for a new head"
    if want[0] < have[0]:
        ways = (
            f"FILE?head={want[0]} for its first ones, FILE?head=LIST.json for those in a JSON list, or {ways}"
        )
    raise UserError(f"the file tells {have[0]} classes apart and the model {want[0]}; write {ways}")


def classifier_rows() -> list[Row]:
    """Rows of all kinds of classifiers. Those that a kind lacks match nothing."""
    head = linear("head", "head", bias=False)
    # The rule stands with the bias alone, so that its advice is given once.
    rows = [*trunk(), *norm("fc_norm", "fc_norm"), *head, Row("head.bias", "head/bias", fit=other_classes)]
    rows += norm("extra_mlp.0", "extra_mlp/norm") + linear("down.0", "down") + norm("down_norm", "down_norm")
    rows += linear("extra_mlp.1.fc1", "extra_mlp/fc1") + linear("extra_mlp.1.fc2", "extra_mlp/fc2")
    return rows + [
        Row("down_norm.running_mean", "down_norm/mean"),
        Row("down_norm.running_var", "down_norm/variance"),
    ]


_NORMS: dict[str, MergeNorm] = {"LN": "layer", "BN": "batch", "kaiming_BN": "batch_plain"}


def _size_of(config: Mapping[str, Any]) -> ClassifierSize:
    """Sizes of a fixture of a classifier. The norm is the constructor's own where a fixture names none."""
    return ClassifierSize(
        encoder_size({"num_frames": 8} | dict(config)),
        config["num_classes"],
        extra_mlp="_ap" in config.get("class", ""),
        merge=config.get("merge_method", "proj"),
        merge_norm=_NORMS[config.get("merge_norm", "kaiming_BN")],
    )


def _run(size: ClassifierSize, params: Any, inputs: Mapping[str, Any], dtype: Any) -> dict[str, jax.Array]:
    """Patch embedding, residual streams, the pooled feature before and after fc_norm, logits."""
    video = jnp.asarray(inputs["video"].transpose(0, 2, 3, 4, 1))
    tower = size.encoder.build(Compute(dtype), tuple(range(size.encoder.depth)))
    encoded = tower.encode(params["encoder"], video)
    pooled = encoded.pooled
    if size.extra_mlp:
        pooled += ExtraMlp(dtype).apply({"params": params["extra_mlp"]}, pooled)
    normed: Any = layer_norm("", jnp.float32).apply({"params": params["fc_norm"]}, pooled)
    logits, _ = size.build(Compute(dtype)).classify(params, encoded)
    return {
        "patch_embed": embedded(size.encoder, params["encoder"], video, dtype),
        **{f"after_block_{i}": stream for i, stream in enumerate(encoded.taps)},
        "pooled": encoded.pooled,
        "fc_norm": normed,
        "logits": logits,
    }


CLASSIFIER = Family(
    name="internvideo2_classifier",
    rows=tuple(classifier_rows()),
    presets=CLASSIFIERS,
    container="module",
    frames=(8, 4, 16),
    parity=FixtureRun(_size_of, _run),
    about="classifiers that were fine-tuned from stage 1, and probes",
)

FAMILIES = (CLASSIFIER,)
