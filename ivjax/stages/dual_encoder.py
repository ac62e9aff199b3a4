"""ViCLIP's stage: clips and their captions meet in one space, told apart from all others of the batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.models import flops
from ivjax.models.clip import TextSize, ViClip, VisionSize, embed_video, embed_words, init_viclip
from ivjax.ops.contrastive import Form, Kind, contrastive_loss, scale_from_temperature, scale_gradient
from ivjax.ops.masking import draw_visible, visible_count
from ivjax.ops.randomness import drop_path, exponential, sample_keys
from ivjax.stages.objective import (
    Batch,
    Compute,
    Joint,
    Medium,
    Metrics,
    Objective,
    Params,
    Rows,
    joint_loss,
)


@dataclass(frozen=True)
class Contrast:
    """How embeddings are compared.

    Logits are cosines over the temperature, which is learned inside [`least`, `most`]. `bias` is where the
    learned bias of the sigmoid loss starts. `gather_scale` multiplies the gradient of the embeddings;
    1 / processes is what the originals' gather amounts to. Rows of one clip are positives of each other.
    """

    kind: Kind = "info_nce"
    form: Form = "gathered"
    temperature: float = 0.01
    least: float = 0.01
    most: float = float("inf")
    bias: float = -10.0
    gather_scale: float = 1.0


@dataclass(frozen=True)
class DualEncoder:
    """The stage. The share `mask` of a clip's patches is not seen in training.

    Without `train_text` the text tower is frozen, as in the originals, and comes from `init_from`.
    """

    vision: VisionSize
    text: TextSize
    contrast: Contrast = Contrast()
    mask: float = 0.9
    drop_path: float = 0.1
    train_text: bool = False

    def build(self, compute: Compute) -> Objective:
        """The stage's parameters, loss and batches."""
        self._check()
        model, contrast = self.model(compute), self.contrast

        def rows(params: Params, batch: Batch, key: jax.Array) -> Rows:
            return self._rows(model, params, batch, key)

        def loss(params: Params, rows: Rows, batch: Batch) -> tuple[jax.Array, Metrics]:
            return self._loss(params, rows, batch)

        joint = Joint(rows, loss)
        return Objective(
            init=lambda key: init_viclip(model, key),
            loss=joint_loss(joint),
            media={"video": self._medium(self.vision.frames), "image": self._medium(1)},
            frozen=() if self.train_text else ("text",),
            joint=joint,
            bounds={"temperature": (contrast.least, contrast.most)},
            grid=self.vision.grid,
            vocabulary=self.text.vocabulary,
        )

    def model(self, compute: Compute) -> ViClip:
        """Both towers."""
        contrast = self.contrast
        return ViClip(
            self.vision,
            self.text,
            contrast.temperature,
            contrast.bias if contrast.kind == "sigmoid" else None,
            remat=compute.remat,
            scan=compute.scan,
            dtype=jnp.dtype(compute.dtype),
        )

    def parts(self) -> Mapping[str, Any]:
        """No tower can stand alone."""
        return {}

    def _medium(self, frames: int) -> Medium:
        """Batches of clips of `frames` frames: 1 is an image."""
        patches = frames * self.vision.patches // self.vision.frames
        seen = visible_count(patches, self.mask)
        tower = flops.vision_tower(self.vision, seen)
        words = flops.text_tower(self.text)
        cost = flops.with_backward(tower) | (flops.with_backward(words) if self.train_text else words)
        return Medium(self._batch(frames), tokens=1 + seen, flops=cost)

    def _batch(self, frames: int) -> Mapping[str, jax.ShapeDtypeStruct]:
        struct = jax.ShapeDtypeStruct
        return {
            "index": struct((), jnp.uint32),
            "sample": struct((), jnp.int32),
            "video": struct((frames, *self.vision.image, 3), jnp.uint8),
            "text": struct((self.text.context,), jnp.int32),
        }

    def _check(self) -> None:
        vision, text = self.vision, self.text
        if any(side % vision.patch for side in vision.image):
            raise UserError(
                f"stage.vision.image={vision.image} does not divide into patches of {vision.patch}; "
                "change one of them"
            )
        for name, size in (("vision", vision), ("text", text)):
            if size.width % size.heads:
                raise UserError(
                    f"stage.{name}.width={size.width} does not divide into {size.heads} heads; "
                    f"choose a multiple of {size.heads}"
                )
        if vision.out != text.out:
            raise UserError(
                f"stage.vision.out={vision.out} and stage.text.out={text.out} differ; make them equal"
            )
        if not 0.0 <= self.mask < 1.0:
            raise UserError(f"stage.mask={self.mask}; it must be at least 0 and below 1")
        if not 0.0 < self.contrast.least <= self.contrast.temperature <= self.contrast.most:
            raise UserError(
                f"stage.contrast.temperature={self.contrast.temperature} lies outside "
                f"[{self.contrast.least}, {self.contrast.most}], or these are not above 0"
            )

    def _rows(self, model: ViClip, params: Params, batch: Batch, key: jax.Array) -> Rows:
        video = batch["video"]
        patches = self.vision.patches // self.vision.frames * video.shape[1]
        visible = None
        if self.mask:
            noise = exponential(sample_keys(key, batch["index"], "mask"), (1, patches))
            visible = draw_visible(jnp.ones_like(noise), noise, self.mask)
        keep = drop_path(sample_keys(key, batch["index"], "drop_path"), self.drop_path, self.vision.depth)
        return {
            "video": embed_video(model, params, video, visible, keep),
            "text": embed_words(model, params, batch["text"]),
        }

    def _loss(self, params: Params, rows: Rows, batch: Batch) -> tuple[jax.Array, Metrics]:
        contrast = self.contrast
        video, text = (scale_gradient(rows[name], contrast.gather_scale) for name in ("video", "text"))
        scale = scale_from_temperature(params["temperature"], contrast.least, contrast.most)
        loss = contrastive_loss(
            video, text, batch["sample"], scale, params.get("bias", 0.0), contrast.kind, contrast.form
        )
        return loss, {"temperature": 1.0 / scale}
