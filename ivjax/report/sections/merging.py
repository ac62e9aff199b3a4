"""What HiCo merged: the patches of each output token in one colour, over the frames of a clip."""

import colorsys

import numpy as np

from ivjax.report.facts.merged_videos import MergedVideo, MergedVideos
from ivjax.report.facts.run_facts import RunFacts
from ivjax.report.film import Film, Strip, fitted
from ivjax.report.markup import Cell, details, file_name, table

ABOUT = (
    "Patches of one colour became one token, in whatever frame of their clip they are. On the right each "
    "patch has the mean colour of its token: what an average over merged patches can still tell."
)
_SIDE = 160  # pixels to which small frames are enlarged, so that regions have visible edges
_TINT = 0.5  # how much of a region's colour lies over the frame
_GOLDEN = 0.61803398875  # of the circle of hues from one region to the next: neighbours come out unlike


def merging_films(run: RunFacts, found: MergedVideos) -> list[Film]:
    """Returns a film for each video."""
    name = file_name(run.label)
    return [_film(run, video, f"merged_{name}_{number}") for number, video in enumerate(found.videos, 1)]


def merging_table(run: RunFacts, found: MergedVideos) -> str:
    """Returns what merging did as a mean over the clips."""
    video, report = found.videos[0], found.report
    sizes = [float(share) for share in report["tokens_per_output"]]
    bins = [f"{2**n}" if n == 0 else f"{2**n} to {2 ** (n + 1) - 1}" for n in range(len(sizes))]
    rows: list[list[Cell]] = [
        ["tokens of a clip before", video.regions.size // video.clips],
        ["tokens of a clip after", video.tokens // video.clips],
        ["mean cosine of merged pairs", float(report["similarity"])],
        ["patches in the largest token", float(report["largest"])],
        ["of tokens of several patches, those that cross frames, %", 100 * float(report["across_frames"])],
    ]
    for bin_name, share in zip(bins, sizes, strict=True):
        if share:
            rows.append([f"tokens of {bin_name} patches, %", 100 * share])
    name = f"{run.label}: what merging did, means over {len(found.videos) * video.clips} clips"
    return details(name, table(name, ("", "value"), rows))


def _film(run: RunFacts, video: MergedVideo, name: str) -> Film:
    before, frames = video.regions.size, len(video.frames)
    # Before lines are drawn, which would be blurred.
    video = video._replace(frames=fitted(video.frames))
    clips = "one clip" if video.clips == 1 else f"{video.clips} clips"
    return Film(
        f"{run.label}, {video.name}: {before} patches of {clips} become {video.tokens} tokens",
        (
            Strip(video.frames, f"{video.name}, {frames} frames", "the video"),
            Strip(
                tinted(video),
                f"the same frames in {video.tokens} colours, one for each token",
                "which patches are one",
            ),
            Strip(
                averaged(video),
                "the same frames, each patch in its token's mean colour",
                "what is left of the colours",
            ),
        ),
        name,
    )


def tinted(video: MergedVideo) -> np.ndarray:
    """Returns the frames with the colour of each patch's token over them, and lines between tokens."""
    frames = enlarged(video.frames)
    places = spread(video.regions, frames.shape[1:3])
    hues = [(token * _GOLDEN) % 1.0 for token in range(video.tokens)]
    # Three strengths of colour in turn: hues alone are too many to tell apart.
    colours = np.array(
        [colorsys.hsv_to_rgb(hue, (1, 0.55, 0.8)[n % 3], (1, 1, 0.6)[n % 3]) for n, hue in enumerate(hues)]
    )
    mixed = (1 - _TINT) * frames + _TINT * 255 * colours[places]
    edge = np.zeros(places.shape, bool)
    edge[:, 1:] |= places[:, 1:] != places[:, :-1]
    edge[:, :, 1:] |= places[:, :, 1:] != places[:, :, :-1]
    mixed[edge] = 255
    return mixed.astype(np.uint8)


def averaged(video: MergedVideo) -> np.ndarray:
    """Returns the frames with each patch in the mean colour of all patches of its token."""
    frames = enlarged(video.frames)
    places = spread(video.regions, frames.shape[1:3])
    count = np.maximum(np.bincount(places.ravel(), minlength=video.tokens), 1)
    sums = [np.bincount(places.ravel(), frames[..., c].ravel(), video.tokens) for c in range(3)]
    means: np.ndarray = (np.stack(sums, axis=-1) / count[:, None]).astype(np.uint8)
    return means[places]


def enlarged(frames: np.ndarray) -> np.ndarray:
    """Returns small frames enlarged by a whole factor."""
    factor = max(_SIDE // max(frames.shape[1:3]), 1)
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)


def spread(regions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the region of each pixel: (F, rows, columns) -> (F, H, W)."""
    rows, columns = (np.arange(n) * regions.shape[axis + 1] // n for axis, n in enumerate(size))
    return regions[:, rows][:, :, columns]
