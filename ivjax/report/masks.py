"""Frames as the student of a stage-1 run sees them, and the attention of its clip teacher."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ivjax.convert.origins import params_of_run
from ivjax.errors import UserError
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.storing import stored_experiment
from ivjax.stages.masked_reconstruction import MaskedReconstruction
from ivjax.stages.masked_reconstruction_loss import reconstruction_of
from ivjax.train.feed import open_loader
from ivjax.train.mesh import build_mesh


class MaskedClips(NamedTuple):
    """Clips with the teacher's attention and the student's mask.

    Attributes:
        frames: (B, T, H, W, 3) uint8.
        attention: (B, T, rows, columns).
        visible: which patches the student sees, (B, T, rows, columns).
    """

    frames: np.ndarray
    attention: np.ndarray
    visible: np.ndarray


def attention_over(frame: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Returns a frame (H, W, 3) uint8 with attention (rows, columns) in colour over it, dark to bright."""
    from matplotlib import colormaps
    from PIL import Image

    low, high = attention.min(), attention.max()
    levels = np.uint8(255 * (attention - low) / max(high - low, 1e-9))
    # Between the patches it is blended, as attention has no edges of its own.
    spread = Image.fromarray(levels).resize(frame.shape[1::-1], Image.Resampling.BILINEAR)
    colour = 255 * colormaps["magma"](np.asarray(spread))[..., :3]
    mixed: np.ndarray = (0.45 * frame + 0.55 * colour).astype(np.uint8)
    return mixed


def masked_frame(frame: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Returns a frame (H, W, 3) uint8 whose hidden patches, (rows, columns), stay faintly visible."""
    return np.where(_as_large(visible, frame)[..., None], frame, frame // 6)


def guides_a_mask(experiment: Experiment) -> bool:
    """Whether a run has a clip teacher, whose attention can be drawn."""
    stage = experiment.stage
    return isinstance(stage, MaskedReconstruction) and stage.clip_teacher is not None


def masked_clips(run: Path) -> MaskedClips:
    """Returns the first eval batch of a stage-1 run, through its own teacher and mask."""
    experiment = stored_experiment(run)
    stage = experiment.stage
    if not isinstance(stage, MaskedReconstruction) or not guides_a_mask(experiment):
        raise UserError(f"{run} was trained without a clip teacher, so there is no attention to draw")
    objective = stage.build(experiment.compute)
    # One device, so that a batch of any size will do.
    mesh = build_mesh(MeshShape(), jax.local_devices()[:1])
    loader = open_loader(experiment, objective, mesh, run, eval_clips=bool(experiment.eval_loss.every))
    _, _, batch = next(loader)
    loader.close()
    params = params_of_run(run, experiment, branch="clip_teacher")
    attention, tokens = jax.jit(_attention_and_tokens, static_argnums=(0, 1))(
        stage, experiment.compute, params, batch
    )
    times, rows, columns = stage.student.grid
    visible = np.zeros((len(tokens), times * rows * columns), bool)
    # The first token is the class token; patches count from 1 in the student's input.
    np.put_along_axis(visible, np.asarray(tokens)[:, 1:] - 1, True, axis=1)
    shape = (len(tokens), times, rows, columns)
    # One frame for each temporal position that the student sees.
    frames = np.asarray(batch["video"])[:, :: stage.stride * stage.student.tubelet]
    return MaskedClips(frames, np.asarray(attention, np.float32).reshape(shape), visible.reshape(shape))


def _attention_and_tokens(
    stage: MaskedReconstruction, compute: Any, params: Any, batch: Any
) -> tuple[jax.Array, jax.Array]:
    key = jax.random.key(0)
    reconstruction = reconstruction_of(stage, compute)
    features = reconstruction.clip_features(params, batch, key)
    return features.attention, reconstruction.draw(batch, key, features)


def _as_large(grid: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Returns a grid (rows, columns) enlarged to the pixels of a frame (H, W, 3)."""
    high, wide = frame.shape[0] // grid.shape[0], frame.shape[1] // grid.shape[1]
    return np.kron(grid, np.ones((high, wide), grid.dtype))
