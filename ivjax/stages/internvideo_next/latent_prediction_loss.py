"""The loss of InternVideo-Next's stage 2: blocks are hidden, and the target's features predicted there."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ivjax.experiment.computing import Compute
from ivjax.models.internvideo_next.student import NextModel
from ivjax.models.tower import VideoTower
from ivjax.ops.block_masks import SeenPatches, draw_uncovered, first_of, hidden_by
from ivjax.ops.cut import Params
from ivjax.ops.losses import l2_normalise
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.ops.trees import map_with_path, paths_of
from ivjax.stages.internvideo_next.latent_prediction import LatentPrediction
from ivjax.stages.objective import MOMENTUM, Batch, Medium, Metrics, Objective


def build(stage: LatentPrediction, compute: Compute) -> Objective:
    """Returns the stage's parameters, loss and batch."""
    target = stage.encoder.build(Compute(compute.dtype, scan=compute.scan))
    parts = LatentObjective(stage, stage.model(compute), target)
    undropped = dataclasses.replace(stage, drop_path=0.0, target_drop_path=0.0)
    size, struct = stage.encoder, jax.ShapeDtypeStruct
    clip = {"index": struct((), jnp.uint32), "video": struct((size.frames, *size.image, 3), jnp.uint8)}
    moves = stage.momentum < 1.0
    return Objective(
        init=parts.init,
        loss=parts.loss,
        eval_loss=dataclasses.replace(parts, stage=undropped).loss,
        media={"video": Medium(clip, size.class_tokens + stage.most, stage.flops())},
        rules=stage.rules,
        # No loss reads what the encoder pools: without gradients, decay alone would shrink it.
        frozen=("encoder/clip_projector", *(() if moves else ("target",))),
        running=_paths_of_target(target) if moves else (),
        grid=size.table_grid,
    )


def _paths_of_target(target: VideoTower) -> tuple[str, ...]:
    shapes = jax.eval_shape(target.init, jax.random.key(0))
    return tuple(f"target/{path}" for path, _ in paths_of(shapes))


@dataclass(frozen=True)
class LatentObjective:
    """The stage with its models.

    Attributes:
        stage: the stage's options.
        model: the model that is trained.
        target: the tower whose features are predicted.
    """

    stage: LatentPrediction
    model: NextModel
    target: VideoTower

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters; the target starts as the encoder does."""
        params = self.model.init(key)
        return params | {"target": params["encoder"]}

    def loss(self, params: Params, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        """The sum over the masks, and the term of each mask."""
        stage, index = self.stage, batch["index"]
        shown = [self.shown(number, index, key) for number in range(len(stage.masks))]
        wanted = self.features(params, batch["video"], index, key)
        total, terms = self.compared(params, batch["video"], shown, wanted, self.keep(index, key))
        return total, terms | self._moved_target(params)

    def shown(self, number: int, index: jax.Array, key: jax.Array) -> SeenPatches:
        """Draws what clips show under one of the masks."""
        stage, mask = self.stage, self.stage.masks[number]
        keys = sample_keys(key, index, f"blocks_{number}")
        drawn = draw_uncovered(keys, mask.blocks, stage.encoder.grid, mask.duration, mask.scale, mask.aspect)
        return first_of(drawn, stage.most, stage.equal_counts)

    def features(self, params: Params, video: jax.Array, index: jax.Array, key: jax.Array) -> jax.Array:
        """Returns the target's features (B, N, C) float32 of unit length, of whole clips."""
        stage = self.stage
        keep = drop_path(sample_keys(key, index, "target"), stage.target_drop_path, stage.encoder.depth)
        frozen = jax.lax.stop_gradient(params["target"])
        tokens = self.target.encode(frozen, video, keep=keep).tokens
        return l2_normalise(tokens[:, stage.encoder.class_tokens :])

    def keep(self, index: jax.Array, key: jax.Array) -> jax.Array | None:
        """Draws drop-path multipliers (depth, 2, B * masks) of the encoder: other ones under each mask."""
        stage = self.stage
        drawn = [
            drop_path(sample_keys(key, index, f"drop_path_{n}"), stage.drop_path, stage.encoder.depth)
            for n in range(len(stage.masks))
        ]
        kept = [keep for keep in drawn if keep is not None]
        return jnp.stack(kept, axis=-1).reshape(*kept[0].shape[:2], -1) if kept else None

    def compared(
        self,
        params: Params,
        video: jax.Array,
        shown: list[SeenPatches],
        wanted: jax.Array,
        keep: jax.Array | None = None,
    ) -> tuple[jax.Array, Metrics]:
        """The sum over masks of 2 - 2 cos at hidden patches: mean over a clip's patches, then over clips."""
        count, size = len(shown), self.stage.encoder
        # The masks of a clip become rows beside each other: one pass, and no row leaves its device.
        places, seen = (jnp.stack(x, axis=1).reshape(-1, x[0].shape[1]) for x in zip(*shown, strict=True))
        predicted = self.model.predict(params, jnp.repeat(video, count, axis=0), places, seen, keep)
        hidden = hidden_by(SeenPatches(places, seen), size.patches).astype(jnp.float32)
        predicted, hidden = (x.reshape(-1, count, *x.shape[1:]) for x in (predicted, hidden))
        distance = 2.0 - 2.0 * jnp.einsum("bmnc,bnc->bmn", predicted, wanted)
        by_mask = jnp.mean(jnp.sum(distance * hidden, -1) / jnp.maximum(jnp.sum(hidden, -1), 1.0), axis=0)
        return jnp.sum(by_mask), {f"mask_{n}": term for n, term in enumerate(by_mask)}

    def _moved_target(self, params: Params) -> Metrics:
        """Where the step shall move the target to: towards the encoder by 1 - momentum."""
        share = (1.0 - self.stage.momentum) / MOMENTUM
        if not share:
            return {}
        found: Metrics = {}

        def moved(path: str, target: jax.Array, encoder: jax.Array) -> None:
            # The step goes a fixed share of the way to a running statistic, and so lands where it shall.
            found[f"target/{path}"] = jax.lax.stop_gradient(target + share * (encoder - target))

        map_with_path(moved, params["target"], params["encoder"])
        return found
