"""`ivjax.features`: features of videos on disk or in memory."""

import dataclasses
import math
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh

from ivjax.convert.loading import Loaded
from ivjax.data_pipelines.sampling import FrameRule, rule_for_tests
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError
from ivjax.evals.compiled import local_mesh, placed
from ivjax.evals.encoding import TokenEncoder, in_batches
from ivjax.evals.features import embedder_of
from ivjax.evals.hearing import hearing_of, stacked
from ivjax.evals.own_frames import own_frames, reading_of
from ivjax.evals.suites.suite import Feature
from ivjax.evals.views import VideoView, read_views
from ivjax.models.sizes import Compared
from ivjax.ops.cut import Params

FeatureKind = Literal["pooled", "mean", "tokens"]  # what is returned of each video

# What has been made of a model, so that the next call copies no parameters and traces nothing.
_OPENED: "weakref.WeakKeyDictionary[Loaded, dict[Any, Any]]" = weakref.WeakKeyDictionary()


def features(
    model: Loaded,
    videos: Any,
    kind: FeatureKind | None = None,
    *,
    batch: int = 16,
    rule: FrameRule | None = None,
    frame_rate: float = 0.0,
    broken: Literal["raise", "nan"] = "raise",
    mesh: Mesh | None = None,
    threads: int | None = None,
    medium: Compared = "video",
) -> np.ndarray:
    """Returns the features of videos: (n, D) float32, or (n, N, C) of tokens; a row for each, in order.

    They are those that `ivjax embed` stores, and they do not depend on the batch or the devices.

    Args:
        model: what `ivjax.load` returns; any model with a video tower.
        videos: one or many of: a file, the bytes of one, a folder of images that are its frames, an array
            (T, H, W, 3) uint8. They may be of any length and size: frames are chosen and resized.
        kind: the vector that the model `pooled` (of a pair of towers, the embedding, of unit length), the
            `mean` of its last states of all patches, or the states of all `tokens`. None: the first, unless
            the model pools nothing or its pooling was never trained.
        batch: clips at a time, over all devices. The last ones are filled up to a power of two.
        rule: which frames are read (None: by the rule of the run that the model comes from, else the middle
            ones of equal parts).
        frame_rate: frames a second of folders and arrays, for rules that count seconds.
        broken: whether a video that cannot be read is an error, or a row of NaN.
        mesh: the devices that compute (None: all of this process).
        threads: videos that are decoded at a time (None: by the cores).
        medium: what of each video: what is seen, its `audio`, or `both`; those need a model of stage 2 that
            hears, and have one embedding of unit length.
    """
    _check(model, kind, batch, broken)
    _check_reading(rule, frame_rate, threads)
    if medium != "video" and kind not in (None, "pooled"):
        raise UserError(f"{kind!r} is of pictures; leave out kind with medium={medium!r}")
    encoder = _encoder(model, kind, batch, mesh or local_mesh(), medium)
    base = _base_view(model, encoder.frames, rule)
    views = (_view(base, number, video, frame_rate) for number, video in enumerate(_listed(videos)))
    hearing = hearing_of(encoder)
    seen = read_views(views, encoder.frames, encoder.image, threads, hearing=hearing)
    read = _Results(seen, broken == "nan")
    made = []
    for rows in in_batches(iter(read), batch):
        clips = stacked([found for _, found in rows])
        made.append((encoder.tokens if kind == "tokens" else encoder.video)(clips))
        if not np.isfinite(made[-1]).all():
            raise UserError(f"features of {model.path} are not finite; the weights are broken")
    if not made:
        raise UserError(f"there is no video to read; {read.error}" if read.error else "there are no videos")
    found = np.full((read.count, *made[0].shape[1:]), np.nan, np.float32)
    found[read.whole] = np.concatenate(made)
    return found


class _Results:
    """Iterates over the number and what is read of each video that can be read."""

    def __init__(self, results: Iterable[Any], skip: bool):
        self._results = results
        self._skip = skip
        self.count = 0
        self.whole: list[int] = []
        self.error = ""

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        for number, found in enumerate(self._results):
            self.count += 1
            if not isinstance(found, ClipError):
                self.whole.append(number)
                yield number, found
                continue
            self.error = self.error or f"video {number} cannot be read: {found}"
            if not self._skip:
                raise UserError(f"{self.error}; leave it out, or give broken='nan' for a row of NaN")


def _check(model: Any, kind: str | None, batch: int, broken: str) -> None:
    if not isinstance(model, Loaded):
        raise UserError(
            f"features are those of what ivjax.load returns, not of a {type(model).__name__}; give that whole"
        )
    if kind not in (None, "pooled", "mean", "tokens"):
        raise UserError(f"kind must be pooled, mean or tokens, got {kind!r}")
    if batch < 1:
        raise UserError(f"batch must be 1 or more, got {batch}")
    if broken not in ("raise", "nan"):
        raise UserError(f"broken must be raise or nan, got {broken!r}")


def _check_reading(rule: Any, frame_rate: float, threads: int | None) -> None:
    if rule is not None and not hasattr(rule, "choose"):
        raise UserError(f"rule must be a frame rule, such as Intervals(8), got {rule!r}")
    if not 0 <= frame_rate < math.inf:
        raise UserError(f"frame_rate must be a number of frames a second, or 0 if unknown, got {frame_rate}")
    if threads is not None and threads < 1:
        raise UserError(f"threads must be 1 or more, got {threads}")


def _encoder(
    model: Loaded, kind: FeatureKind | None, batch: int, mesh: Mesh, medium: Compared
) -> TokenEncoder:
    made = _OPENED.setdefault(model, {})
    feature: Feature | None = None if kind == "tokens" else kind
    if mesh not in made:
        made[mesh] = placed(model.params, mesh)
    params: Params = made[mesh]
    key = (feature, batch, mesh, medium)
    if key not in made:
        made[key] = embedder_of(dataclasses.replace(model, params=params), feature, batch, mesh, medium)
    encoder: TokenEncoder = made[key]
    return encoder


def _base_view(model: Loaded, frames: int, rule: FrameRule | None) -> VideoView:
    """Returns how each video is read, but for its medium."""
    own = None if model.experiment is None else own_frames(model.experiment)
    (view,) = reading_of(own, frames, clips=1).views
    if rule is None:
        return view
    if rule.frames != frames:
        raise UserError(
            f"the rule gives {rule.frames} frames and the model reads {frames}; give one of {frames}"
        )
    return dataclasses.replace(view, rule=rule_for_tests(rule))


def _listed(videos: Any) -> Iterable[Any]:
    if isinstance(videos, str | Path | bytes):
        return [videos]
    if hasattr(videos, "ndim"):  # an array of numpy, jax or torch
        array = np.asarray(videos)
        return array if array.ndim == 5 else [array]
    if not isinstance(videos, Iterable):
        raise UserError(
            f"videos are files, bytes, folders of images or arrays, not a {type(videos).__name__}"
        )
    return videos


def _view(base: VideoView, number: int, video: Any, frame_rate: float) -> VideoView:
    if isinstance(video, bytes):
        return dataclasses.replace(base, media=video)
    if isinstance(video, str | Path):
        path = Path(video).expanduser()
        rate = frame_rate if path.is_dir() else None
        return dataclasses.replace(base, media=str(path), frame_rate=rate)
    array = np.asarray(video)
    check_frames(f"video {number}", array)
    return dataclasses.replace(base, media=array, frame_rate=frame_rate)


def check_frames(name: str, array: np.ndarray) -> None:
    """Raises UserError for an array that is not frames (T, H, W, 3) uint8; says how to make it so."""
    advice = _advice(array)
    if advice:
        raise UserError(f"{name} is {array.shape} {array.dtype}, and frames are (T, H, W, 3) uint8: {advice}")


def _advice(array: np.ndarray) -> str:
    shape = array.shape
    if array.ndim == 3 and shape[-1] == 3:
        return "one picture is picture[None], and several are np.stack(pictures)"
    if array.ndim != 4:
        return "give a list of files, of such arrays, or of both"
    if 0 in shape:
        return "it is empty"
    if shape[-1] == 4:
        return "leave out alpha with video[..., :3]"
    if shape[-1] != 3:
        order = {1: "(0, 2, 3, 1)", 0: "(1, 2, 3, 0)"}
        first = next((order[axis] for axis in order if shape[axis] == 3), None)
        if first is not None:
            return f"channels come last, as in video.transpose{first}"
        return "give red, green and blue"
    if array.dtype != np.uint8:
        scale = "(video * 255).round()" if array.dtype.kind == "f" else "video"
        return f"values go from 0 to 255, as in {scale}.astype(np.uint8)"
    return ""
