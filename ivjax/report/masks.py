"""Frames as the student of a run sees them, and where its clip teacher looks."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ivjax.convert.origins import params_of_run
from ivjax.errors import UserError
from ivjax.experiment.mesh_shape import MeshShape
from ivjax.experiment.storing import stored_experiment
from ivjax.report.figure import new_figure, write_figure
from ivjax.stages.masked_reconstruction import MaskedReconstruction
from ivjax.stages.masked_reconstruction_loss import reconstruction_of
from ivjax.train.feed import open_loader
from ivjax.train.mesh import build_mesh


class Seen(NamedTuple):
    """Frames (B, T, H, W, 3) uint8, attention (B, T, rows, columns), and which patches are visible, alike."""

    frames: np.ndarray
    attention: np.ndarray
    visible: np.ndarray


def draw_masks(run: Path, out: Path, clips: int = 3) -> Path:
    """Two rows for each of the first eval clips: the teacher's attention, and what the mask leaves."""
    seen = see(run)
    clips, times = min(clips, len(seen.frames)), seen.frames.shape[1]
    figure, axes = new_figure(2 * clips, times, 1.5, 1.5)
    for panel in axes.flat:
        panel.set_axis_off()
    for clip in range(clips):
        for time in range(times):
            frame, attention = seen.frames[clip, time], seen.attention[clip, time]
            axes[2 * clip, time].imshow(frame)
            spread = _as_large(attention, frame)
            axes[2 * clip, time].imshow(spread, cmap="magma", alpha=0.55, interpolation="bilinear")
            shown = np.where(_as_large(seen.visible[clip, time], frame)[..., None], frame, frame // 6)
            axes[2 * clip + 1, time].imshow(shown)
    figure.suptitle("where the clip teacher looks, and what the student sees")
    return write_figure(figure, out)


def see(run: Path) -> Seen:
    """The first eval batch of a run of stage 1, through its own teacher and mask."""
    experiment = stored_experiment(run)
    stage = experiment.stage
    if not isinstance(stage, MaskedReconstruction) or stage.clip_teacher is None:
        raise UserError(f"{run} was trained without a clip teacher, so there is no attention to draw")
    objective = stage.build(experiment.compute)
    mesh = build_mesh(MeshShape(), jax.local_devices()[:1])
    loader = open_loader(experiment, objective, mesh, run, eval_clips=bool(experiment.eval_loss.every))
    _, _, batch = next(loader)
    loader.close()
    params = params_of_run(run, experiment, branch="clip_teacher")
    attention, tokens = jax.jit(_looks, static_argnums=(0, 1))(stage, experiment.compute, params, batch)
    times, rows, columns = stage.student.grid
    visible = np.zeros((len(tokens), times * rows * columns), bool)
    np.put_along_axis(visible, np.asarray(tokens)[:, 1:] - 1, True, axis=1)
    shape = (len(tokens), times, rows, columns)
    frames = np.asarray(batch["video"])[:, :: stage.stride * stage.student.tubelet]
    return Seen(frames, np.asarray(attention, np.float32).reshape(shape), visible.reshape(shape))


def _looks(stage: MaskedReconstruction, compute: Any, params: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
    key = jax.random.key(0)
    reconstruction = reconstruction_of(stage, compute)
    features = reconstruction.clip_features(params, batch, key)
    return features.attention, reconstruction.draw(batch, key, features)


def _as_large(grid: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """(rows, columns) as pixels of a frame (H, W, 3)."""
    high, wide = frame.shape[0] // grid.shape[0], frame.shape[1] // grid.shape[1]
    return np.kron(grid, np.ones((high, wide), grid.dtype))
