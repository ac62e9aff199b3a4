"""Stage 2's fixtures: parameters through the table of their files, and losses whose draws are replayed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.convert.engine.family import Family
from ivjax.convert.families.stage2 import STAGE2
from ivjax.experiment.computing import Compute
from ivjax.experiment.patterns import covers
from ivjax.ops.cut import Params
from ivjax.ops.masked_words import WordDraws, mask_words
from ivjax.ops.negatives import Negatives
from ivjax.stages.cross_modal import CrossModal, LossWeights
from ivjax.stages.cross_modal_loss import CrossModalTraining, training_of
from ivjax.stages.mask import Mask
from tests.convert.tables import export_tensors, import_tensors
from tests.goldens import Golden

FLOAT32 = Compute("float32")


def params_of(family: Family, tensors: Mapping[str, np.ndarray]) -> Params:
    """The parameters of a fixture, through the table of its family; copies and buffers are left out."""
    kept = {n: t for n, t in tensors.items() if n not in family.ties and not covers(["*position_ids"], n)}
    return import_tensors(family.rows, kept)


def stage_of(golden: Golden) -> CrossModal:
    """The stage that a fixture was made with: nothing is dropped."""
    size, config = STAGE2.parity.sizes(golden.config), golden.config
    return CrossModal(
        size.vision,
        size.text,
        size.audio,
        size.joint_width,
        weights=LossWeights(**config["loss_weight"]),
        mask=Mask("random", config["video_mask_ratio"], "clip"),
        image_mask=Mask("random", config["image_mask_ratio"], "clip"),
        drop_path=0.0,
        dropout=0.0,
        word_mask=config["mlm_prob"],
    )


@dataclasses.dataclass(frozen=True)
class Replayed(CrossModalTraining):
    """The stage with the draws of a fixture: `draws` are its inputs without the prefix of a run."""

    draws: Any = None

    def visible(self, batch, key, features):
        """See CrossModalTraining."""
        hidden = self.draws["mask"]
        return jnp.asarray(np.stack([[0, *(1 + np.flatnonzero(row == 0))] for row in hidden]), jnp.int32)

    def negatives(self, term, rows, batch, scale, key):
        """See CrossModalTraining."""
        # The fixture of two media names the negative media by term, the other one by what they are.
        media = next(n for n in (f"{term.name}_media_neg_indices", "vision_neg_indices") if n in self.draws)
        texts = media.replace("media", "text").replace("vision", "text")
        right, left = (jnp.asarray(self.draws[name], jnp.int32) for name in (texts, media))
        return Negatives(right, left, jnp.ones(len(right)))

    def hidden_words(self, term, batch, key):
        """See CrossModalTraining."""
        size, draws = self.stage.text, self.draws
        if f"{term.name}_labels" in draws:
            shown = jnp.asarray(draws[f"{term.name}_input_ids_masked"], jnp.int32)
            return shown, jnp.asarray(draws[f"{term.name}_labels"] != -100)
        names = ("draw_masked", "draw_replace80", "draw_random50", "random_words")
        found = WordDraws(*(jnp.asarray(draws[f"mlm_{name}"]) for name in names))
        found = found._replace(masked=found.masked > 0, replaced=found.replaced > 0, random=found.random > 0)
        return mask_words(batch[term.field], found, size.mask, (size.pad, size.start))


def replayed(stage: CrossModal, draws: Mapping[str, np.ndarray]) -> Replayed:
    """Returns the stage, built, with the draws of a fixture."""
    training = training_of(stage, FLOAT32)
    return Replayed(*(getattr(training, f.name) for f in dataclasses.fields(training)), draws)


def value_and_gradients(training: Replayed, params: Params, batch: Mapping[str, Any]) -> Any:
    """((loss, terms), gradients) of a batch, compiled."""

    def loss(params: Params, batch: Mapping[str, Any]) -> Any:
        key = jax.random.key(0)
        return training.loss(params, training.rows(params, batch, key), batch, key)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params, dict(batch))


def check_gradients(family: Family, found: Params, wanted: Mapping[str, np.ndarray]) -> None:
    """Asserts that gradients are those of a fixture, under its names."""
    assert wanted
    named = export_tensors(family.rows, jax.device_get(found))
    for name, gradient in wanted.items():
        # Some are zero but for rounding: a bias of keys moves all logits of a query alike.
        least = 1e-7 * max(float(np.abs(gradient).max()) for gradient in wanted.values())
        scale = 1e-5 * float(np.abs(gradient).max())
        np.testing.assert_allclose(named[name], gradient, rtol=1e-3, atol=scale + least, err_msg=name)
