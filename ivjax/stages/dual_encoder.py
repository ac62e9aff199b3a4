"""Contrast: clips and their captions meet in one space, told apart from all others of the batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ivjax.errors import UserError
from ivjax.experiment.computing import Compute
from ivjax.experiment.rules import Rule, Rules, prefixed, stated_in
from ivjax.models import flops
from ivjax.models.internvideo2.encoder import EncoderSize
from ivjax.models.viclip.towers import TextSize, ViClip, VisionSize, embed_video, embed_words, init_viclip
from ivjax.ops.contrastive import Form, Kind, contrastive_loss, scale_from_temperature, scale_gradient
from ivjax.ops.masking import draw_visible, visible_count
from ivjax.ops.randomness import drop_path, exponential, sample_keys
from ivjax.stages.checks import check_encoder, check_width
from ivjax.stages.objective import Batch, Joint, Medium, Metrics, Objective, Params, PerClip, joint_loss


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
    """The stage, ViCLIP's with a `VisionSize`. The share `mask` of the patches is not seen in training.

    Without `train_text` the text tower is frozen, as in the originals, and comes from `init_from`. An
    `EncoderSize` reads clips of `frames` frames (None: its own) in parts of its own length.
    """

    vision: VisionSize | EncoderSize
    text: TextSize
    frames: int | None = None
    contrast: Contrast = Contrast()
    mask: float = 0.9
    drop_path: float = 0.1
    train_text: bool = False

    def build(self, compute: Compute) -> Objective:
        """The stage's parameters, loss and batches."""
        self._check()
        model = self.model(compute)

        def embed(params: Params, batch: Batch, key: jax.Array) -> PerClip:
            return self._embed(model, params, batch, key)

        def loss(params: Params, embedded: PerClip, batch: Batch) -> tuple[jax.Array, Metrics]:
            return self._loss(params, embedded, batch)

        joint = Joint(embed, loss)
        return Objective(
            init=lambda key: init_viclip(model, key),
            loss=joint_loss(joint),
            media=self._media(),
            frozen=() if self.train_text else ("text",),
            joint=joint,
            rules=self._rules(),
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
            frames=self.frames,
        )

    def _rules(self) -> Rules:
        contrast = self.contrast
        own = (Rule("temperature", bounds=(contrast.least, contrast.most)), Rule("bias"))
        towers = (*prefixed("vision", self.vision.rules), *prefixed("text", self.text.rules))
        return (*stated_in(__name__, own), *towers)

    def encoders(self) -> Mapping[str, Any]:
        """An InternVideo2 encoder can stand alone; ViCLIP's files are of both towers."""
        return {"vision": self.vision} if isinstance(self.vision, EncoderSize) else {}

    @property
    def _frames(self) -> int:
        return self.vision.frames if self.frames is None else self.frames

    def _media(self) -> dict[str, Medium]:
        """Clips, and images where the tower can read them."""
        lengths = {"video": self._frames}
        if isinstance(self.vision, VisionSize) or self.vision.frames == 1:
            lengths["image"] = 1
        return {name: self._medium(frames) for name, frames in lengths.items()}

    def _medium(self, frames: int) -> Medium:
        """Batches of clips of `frames` frames: 1 is an image."""
        parts, patches = self._parts(frames)
        seen = visible_count(patches, self.mask)
        if isinstance(self.vision, VisionSize):
            tower = flops.vision_tower(self.vision, seen)
        else:
            tower = flops.encoder_forward(self.vision, 1 + seen)
        tower = {name: parts * cost for name, cost in tower.items()}
        words = flops.text_tower(self.text)
        cost = flops.with_backward(tower) | (flops.with_backward(words) if self.train_text else words)
        return Medium(self._batch(frames), tokens=parts * (1 + seen), flops=cost)

    def _parts(self, frames: int) -> tuple[int, int]:
        """In how many parts the tower reads clips of `frames` frames, and of how many patches."""
        if isinstance(self.vision, VisionSize):
            return 1, frames * self.vision.patches // self.vision.frames
        return frames // self.vision.frames, self.vision.patches

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
        check_width("vision", vision.width, {"heads": vision.heads})
        check_width("text", text.width, {"heads": text.heads})
        self._check_vision()
        if not 0.0 <= self.mask < 1.0:
            raise UserError(f"stage.mask={self.mask}; it must be at least 0 and below 1")
        if not 0.0 < self.contrast.least <= self.contrast.temperature <= self.contrast.most:
            raise UserError(
                f"stage.contrast.temperature={self.contrast.temperature} lies outside "
                f"[{self.contrast.least}, {self.contrast.most}], or these are not above 0"
            )

    def _check_vision(self) -> None:
        vision = self.vision
        whole = isinstance(vision, VisionSize)
        if isinstance(vision, EncoderSize):
            check_encoder("vision", vision)
        name = "out" if whole else "pool_width"
        out: int = getattr(vision, name)
        if out != self.text.out:
            raise UserError(
                f"stage.vision.{name}={out} and stage.text.out={self.text.out} differ; make them equal"
            )
        if self._frames % vision.frames or (whole and self._frames != vision.frames):
            raise UserError(
                f"stage.frames={self.frames} cannot be read {vision.frames} at a time; leave it out, or make "
                "it a multiple of an InternVideo2 encoder's stage.vision.frames"
            )

    def _embed(self, model: ViClip, params: Params, batch: Batch, key: jax.Array) -> PerClip:
        video = batch["video"]
        parts, patches = self._parts(video.shape[1])
        visible = None
        if self.mask:
            noise = exponential(sample_keys(key, batch["index"], "mask"), (parts, patches))
            noise = noise.reshape(-1, 1, patches)
            visible = draw_visible(jnp.ones_like(noise), noise, self.mask)
        keep = drop_path(sample_keys(key, batch["index"], "drop_path"), self.drop_path, self.vision.depth)
        if keep is not None:
            keep = jnp.repeat(keep, parts, axis=-1)
        return {
            "video": embed_video(model, params, video, visible, keep),
            "text": embed_words(model, params, batch["text"]),
        }

    def _loss(self, params: Params, embedded: PerClip, batch: Batch) -> tuple[jax.Array, Metrics]:
        contrast = self.contrast
        video, text = (scale_gradient(embedded[name], contrast.gather_scale) for name in ("video", "text"))
        scale = scale_from_temperature(params["temperature"], contrast.least, contrast.most)
        loss = contrastive_loss(
            video, text, batch["sample"], scale, params.get("bias", 0.0), contrast.kind, contrast.form
        )
        return loss, {"temperature": 1.0 / scale}
