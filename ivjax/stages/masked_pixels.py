"""VideoMAE's pre-training: a tenth of a clip's tokens is seen, and the pixels of the others are predicted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.models import flops
from ivjax.models.videomae.autoencoder import DecoderSize, MaskedAutoencoder, init_autoencoder
from ivjax.models.videomae.encoder import VideoMaeSize
from ivjax.models.videomae.rules import AUTOENCODER
from ivjax.ops.masking import gather_tokens, hidden_from, places_of, running_cells
from ivjax.ops.randomness import drop_path, sample_keys
from ivjax.ops.video import IMAGENET_MEAN, IMAGENET_STD, patchify
from ivjax.stages.checks import check_patches, check_width
from ivjax.stages.mask import Mask
from ivjax.stages.objective import Batch, Joint, Medium, Metrics, Objective, Params, PerClip, joint_loss


class Task(NamedTuple):
    """Patches of each clip, ascending: which are seen, which are decoded, and which of these are hidden."""

    visible: jax.Array  # (B, n)
    decoded: jax.Array  # (B, m)
    hidden: jax.Array  # (B, m) bool


@dataclass(frozen=True)
class MaskedPixels:
    """The stage.

    All hidden patches are decoded; with `decode`, a running-cell mask skips that share of all patches and the
    others are decoded, of which those that are seen do not count. `normalised` targets have mean 0 and
    deviation 1 in each patch and colour.
    """

    encoder: VideoMaeSize
    decoder: DecoderSize
    mask: Mask = Mask(kind="tube", ratio=0.9)
    decode: float | None = None
    normalised: bool = True
    drop_path: float = 0.0

    def build(self, compute: Compute) -> Objective:
        """The stage's parameters, loss and batch."""
        self._check()
        model = self.model(compute)

        def errors(params: Params, batch: Batch, key: jax.Array) -> PerClip:
            return self._errors(model, params, batch, key)

        joint = Joint(errors, mean_error)
        return Objective(
            init=lambda key: init_autoencoder(model, key),
            loss=joint_loss(joint),
            media={"video": Medium(self.batch(), tokens=self.visible, flops=self._flops())},
            joint=joint if self._uneven else None,
            rules=AUTOENCODER,
            grid=self.encoder.grid,
        )

    def model(self, compute: Compute) -> MaskedAutoencoder:
        """The encoder and the decoder."""
        return MaskedAutoencoder(
            self.encoder,
            self.decoder,
            remat=compute.remat,
            scan=compute.scan,
            dtype=jnp.dtype(compute.dtype),
        )

    def encoders(self) -> Mapping[str, Any]:
        """The encoder's size by its branch of the parameter tree."""
        return {"encoder": self.encoder}

    @property
    def visible(self) -> int:
        """Tokens that the encoder sees of each clip; the mask counts a class token, which there is not."""
        times, rows, columns = self.encoder.grid
        return self.mask.visible(times, rows * columns) - 1

    def batch(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of one row of the batch."""
        size, struct = self.encoder, jax.ShapeDtypeStruct
        return {
            "index": struct((), jnp.uint32),
            "video": struct((size.frames, *size.image, 3), jnp.uint8),
        }

    def draw(self, index: jax.Array, key: jax.Array) -> Task:
        """What is to be done with the clips of global numbers `index` (B,)."""
        times, rows, columns = self.encoder.grid
        keys = sample_keys(key, index, "mask")
        visible = self.mask.draw(keys, times, rows * columns, None)[:, 1:] - 1
        hidden = hidden_from(visible, self.encoder.patches)
        if self.decode is None:
            decoded = places_of(hidden, self.encoder.patches - self.visible)
        else:
            starts = jax.vmap(jax.random.bits)(sample_keys(key, index, "decode")) % 4
            decoded = self._cells()[starts]
        return Task(visible, decoded, jnp.take_along_axis(hidden, decoded, axis=1))

    def errors(
        self,
        model: MaskedAutoencoder,
        params: Params,
        video: jax.Array,
        task: Task,
        keep: jax.Array | None = None,
        decoder_keep: jax.Array | None = None,
    ) -> PerClip:
        """Of each clip the mean squared errors of its hidden tokens, summed, and how many there are."""
        predicted = model.apply({"params": params}, video, task.visible, task.decoded, keep, decoder_keep)
        patches = gather_tokens(patchify(video, self.encoder.tubelet, self.encoder.patch), task.decoded)
        wide = cast(jax.Array, predicted).astype(jnp.float32)
        error = jnp.mean(jnp.square(wide - pixel_targets(patches, self.normalised)), axis=-1)
        return {
            "error": jnp.sum(error * task.hidden, axis=1),
            "tokens": jnp.sum(task.hidden, axis=1, dtype=jnp.float32),
        }

    def _errors(self, model: MaskedAutoencoder, params: Params, batch: Batch, key: jax.Array) -> PerClip:
        index, rate = batch["index"], self.drop_path
        keep = drop_path(sample_keys(key, index, "drop_path"), rate, self.encoder.depth)
        decoder_keep = drop_path(sample_keys(key, index, "decoder_drop_path"), rate, self.decoder.depth)
        return self.errors(model, params, batch["video"], self.draw(index, key), keep, decoder_keep)

    def _cells(self) -> jax.Array:
        """The patches that are decoded (4, m), for each start of the running cell."""
        skipped = running_cells(*self.encoder.grid, cast(float, self.decode))
        return jnp.asarray(np.stack([np.flatnonzero(~row) for row in skipped]), jnp.int32)

    @property
    def _uneven(self) -> bool:
        """Whether clips differ in how many tokens count: tubes do not, if they meet all turns of the cell."""
        even = self.mask.kind == "tube" and self.encoder.grid[0] % 4 == 0
        return self.decode is not None and not even

    def _flops(self) -> dict[str, float]:
        patches = self.encoder.patches
        decoded = patches - self.visible if self.decode is None else self._cells().shape[1]
        return flops.with_backward(
            flops.autoencoder_forward(self.encoder, self.decoder, self.visible, decoded)
        )

    def _check(self) -> None:
        size = self.encoder
        check_patches("encoder", size)
        for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            check_width(name, part.width, {"heads": part.heads})
        if size.attention == "released_head_axis":
            raise UserError(
                "stage.encoder.attention=released_head_axis is how teachers are run, not trained; "
                "choose standard or cosine"
            )
        self._check_masks()

    def _check_masks(self) -> None:
        self.mask.check()
        if self.mask.kind == "attention":
            raise UserError("stage.mask.kind=attention needs a teacher, which this stage lacks; choose tube")
        if self.visible == self.encoder.patches:
            raise UserError(f"stage.mask.ratio={self.mask.ratio} hides no patch; raise it")
        if self.decode is None:
            return
        if not 0.25 <= self.decode < 1.0:
            raise UserError(
                f"stage.decode={self.decode}; let the decoder skip 0.25, 0.5 or 0.75 of the patches, or "
                "write none to decode all that are hidden"
            )
        _, rows, columns = self.encoder.grid
        if rows % 2 or columns % 2:
            raise UserError(
                f"stage.decode={self.decode} needs an even grid, and {rows}x{columns} patches are not; "
                "change stage.encoder.image, or write none to decode all that are hidden"
            )


def pixel_targets(patches: jax.Array, normalised: bool) -> jax.Array:
    """Float32 pixels of patches (B, m, K*3) between 0 and 1; if `normalised`, with mean 0 and (unbiased)
    deviation 1 over the K pixels of each patch and colour. Float patches are ImageNet-normalised."""
    colours = patches.reshape(*patches.shape[:2], -1, 3).astype(jnp.float32)
    if jnp.issubdtype(patches.dtype, jnp.integer):
        colours = colours / 255
    else:
        colours = colours * IMAGENET_STD + IMAGENET_MEAN
    if normalised:
        mean = jnp.mean(colours, axis=2, keepdims=True)
        deviation = jnp.std(colours, axis=2, ddof=1, keepdims=True)
        colours = (colours - mean) / (deviation + 1e-6)
    return colours.reshape(patches.shape)


def mean_error(params: Params, errors: PerClip, batch: Batch) -> tuple[jax.Array, Metrics]:
    """The mean error of all tokens of the batch that count."""
    return jnp.sum(errors["error"]) / jnp.maximum(jnp.sum(errors["tokens"]), 1.0), {}
