"""Frames to the bytes of an mp4 or a JPEG, in memory; the same frames always give the same bytes (PyAV)."""

import heapq
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from ivjax.data_pipelines.store.records import ClipError
from ivjax.data_pipelines.video.filters import filter_graph
from ivjax.errors import UserError

_AAC = {"b": "64000", "aac_coder": "fast"}  # the usual search for better bits takes longer than the video
_PRESETS = [
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
]
_TUNES = ["film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency"]
_MP4 = {"movflags": "+faststart", "fflags": "+bitexact"}


@dataclass(frozen=True)
class Encoding:
    """H.264, 4:2:0. `crf` is the quality, 0 (lossless) to 51; keyframes are at most `gop` frames apart.

    `preset` and `tune` are x264's.
    """

    crf: int = 23
    gop: int = 24
    preset: str = "veryfast"
    tune: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51 or self.gop < 1:
            raise UserError(
                f"crf={self.crf} gop={self.gop} cannot be encoded; crf is 0 to 51, gop at least 1"
            )
        for name, value, known in (("preset", self.preset, _PRESETS), ("tune", self.tune, (None, *_TUNES))):
            if value not in known:
                raise UserError(
                    f"x264 has no {name} {value!r}; choose one of {', '.join(filter(None, known))}"
                )

    def options(self) -> dict[str, str]:
        """As x264 takes them; one thread, because slices of frames depend on the number of threads."""
        chosen = {"crf": str(self.crf), "g": str(self.gop), "preset": self.preset, "threads": "1"}
        return chosen | ({"tune": self.tune} if self.tune else {})


@dataclass(frozen=True)
class Audio:
    """Sound: `samples` (n,) int16, mono, `rate` of them per second."""

    samples: np.ndarray = field(repr=False)
    rate: int


def encode_video(
    frames: Iterable[np.ndarray | av.VideoFrame],
    fps: Fraction,
    encoding: Encoding = Encoding(),
    audio: Audio | None = None,
) -> bytes:
    """An mp4 with its index in front; frame k is shown at k / fps, whatever time a VideoFrame carries.

    Frames are (H, W, 3) uint8 RGB or VideoFrames, all alike. 4:2:0 has even sides: an odd last column or
    row is cut off. The sound, if any, becomes an AAC track that starts with the first frame. Raises
    ClipError for frames that make no video.
    """
    pictures = _even_420(_video_frames(frames))
    first = next(pictures, None)
    if first is None:
        raise ClipError("no frames", "there is nothing to encode")
    file = io.BytesIO()
    with av.open(file, "w", "mp4", options=_MP4, io_open=_reader_of(file)) as container:
        video = container.add_stream("libx264", rate=fps, options=encoding.options())
        video.width, video.height, video.pix_fmt = first.width, first.height, "yuv420p"
        streams = [_video_packets(video, itertools.chain([first], pictures), fps)]
        if audio is not None and len(audio.samples):
            track = container.add_stream("aac", rate=audio.rate, layout="mono", options=_AAC)
            streams.append(_audio_packets(track, audio))
        for packet in heapq.merge(*streams, key=_decoding_time):
            container.mux(packet)
    return file.getvalue()


def encode_image(frame: np.ndarray, quality: int = 2) -> bytes:
    """JPEG bytes of a (H, W, 3) uint8 RGB picture; `quality` is 1 (best) to 31."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = picture.width, picture.height, "yuvj420p"
    codec.time_base = Fraction(1, 25)
    codec.options = {"qmin": str(quality), "qmax": str(quality), "threads": "1"}
    return b"".join(bytes(packet) for packet in (*codec.encode(picture), *codec.encode(None)))


def _reader_of(file: io.BytesIO) -> Callable[[str, int, dict[str, str]], io.BytesIO]:
    """The muxer reads back what it wrote to move the index in front."""
    return lambda url, flags, options: io.BytesIO(file.getvalue())


def _video_frames(frames: Iterable[np.ndarray | av.VideoFrame]) -> Iterator[av.VideoFrame]:
    for frame in frames:
        if isinstance(frame, np.ndarray):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
        yield frame


def _even_420(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Frames as what an untagged H.264 file means: yuv420p of limited range, BT.601; sides are even."""
    graph, alike = None, None
    for frame in frames:
        size = (frame.width, frame.height, frame.format.name)
        if graph is None:
            graph, alike = _graph(frame), size
        if size != alike:
            raise ClipError("undecodable", f"the frames change from {alike} to {size}")
        graph.push(frame)
        yield graph.vpull()


def _graph(frame: av.VideoFrame) -> av.filter.Graph:
    width, height = frame.width & ~1, frame.height & ~1
    if not width or not height:
        raise ClipError("absurd size", f"frames of {frame.width} x {frame.height}")
    return filter_graph(
        frame,
        [
            ("crop", f"{width}:{height}:0:0:exact=1"),
            ("scale", "flags=bicubic:out_range=tv:out_color_matrix=bt601:threads=1"),
            ("format", "yuv420p"),
        ],
    )


def _video_packets(
    stream: av.VideoStream, frames: Iterable[av.VideoFrame], fps: Fraction
) -> Iterator[av.Packet]:
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, 1 / fps
        frame.pict_type = 0  # the type in the source says nothing about where keyframes belong here
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _decoding_time(packet: av.Packet) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _audio_packets(stream: av.AudioStream, audio: Audio) -> Iterator[av.Packet]:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio.samples)[None], "s16", "mono")
    frame.sample_rate, frame.pts, frame.time_base = audio.rate, 0, Fraction(1, audio.rate)
    yield from stream.encode(frame)
    yield from stream.encode(None)
