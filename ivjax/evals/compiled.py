"""Models of clips compiled for one batch size, rows split over this host's devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from ivjax.data_pipelines.tokenizers.base import Tokenizer
from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.models.viclip.towers import ViClip, embed_video, embed_words
from ivjax.ops.layout import batch_spec
from ivjax.ops.losses import l2_normalise
from ivjax.stages.objective import Params
from ivjax.train.mesh import build_mesh
from ivjax.train.sharding import replicate

Function = Callable[[Params, jax.Array], jax.Array]


class ClipModel:
    """A ClipEncoder: `function` of parameters and clips (B, T, H, W, 3) uint8 gives one vector a clip."""

    def __init__(self, function: Function, params: Params, frames: int, image: tuple[int, int], batch: int):
        if batch < 1:
            raise UserError(f"a batch of {batch} clips cannot be; ask for 1 or more")
        self.frames, self.image = frames, image
        mesh = build_mesh(MeshShape(), jax.local_devices())
        self._rows = NamedSharding(mesh, batch_spec())
        self._batch = -(-batch // mesh.size) * mesh.size
        self._params = jax.device_put(params, replicate(mesh))
        self._video = jax.jit(function)
        clips = jax.ShapeDtypeStruct((self._batch, frames, *image, 3), np.uint8, sharding=self._rows)
        self.width: int = self._video.eval_shape(self._params, clips).shape[-1]

    def video(self, clips: np.ndarray) -> np.ndarray:
        """See ClipEncoder."""
        return self._in_batches(self._video, clips)

    def _in_batches(self, function: Callable[..., Any], rows: np.ndarray) -> np.ndarray:
        """Rows through a compiled function; the last batch is filled up with copies of its last row."""
        found = []
        for start in range(0, len(rows), self._batch):
            part = rows[start : start + self._batch]
            full = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), axis=0)])
            out = function(self._params, jax.device_put(full, self._rows))
            found.append(np.asarray(out, np.float32)[: len(part)])
        return np.concatenate(found)


class TwoTowers(ClipModel):
    """An Encoder."""

    def __init__(self, model: ViClip, params: Params, tokenizer: Tokenizer | None, batch: int):
        def video(params: Params, clips: jax.Array) -> jax.Array:
            return l2_normalise(embed_video(model, params, clips))

        super().__init__(video, params, model.clip_frames, model.vision_size.image, batch)
        self._tokenizer = tokenizer
        self._tokens = jax.jit(lambda p, x: model.apply({"params": p}, x, method="tokens"))
        self._words = jax.jit(lambda p, x: l2_normalise(embed_words(model, p, x)))

    def tokens(self, clips: np.ndarray) -> np.ndarray:
        """See Encoder."""
        return self._in_batches(self._tokens, clips)

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """See Encoder."""
        if self._tokenizer is None:
            raise UserError("this model was opened without words")
        return self._in_batches(self._words, np.stack([self._tokenizer.encode(text) for text in texts]))
