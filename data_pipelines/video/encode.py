"""Encodes frames to an mp4 or a JPEG in memory. Equal frames give equal bytes."""

import functools
import heapq
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

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
_CHROMAS = ["auto", "4:2:0", "4:4:4"]
_TUNES = ["film", "animation", "grain", "stillimage", "psnr", "ssim", "fastdecode", "zerolatency"]
_UP_TO_AVX2 = "MMX2,SSE2Fast,SSSE3,SSE4.2,AVX,FMA3,BMI1,BMI2,AVX2"
# +bitexact leaves out the library's version and the date, which would change the bytes.
_MP4 = {"movflags": "+faststart", "fflags": "+bitexact"}


@functools.cache
def _has_avx512() -> bool:
    """Whether this processor has AVX-512, as far as the system says so."""
    try:
        return "avx512bw" in Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False


@dataclass(frozen=True)
class Encoding:
    """Options of x264.

    Attributes:
        crf: quality, from 0 (lossless) to 51.
        gop: most frames from one keyframe to the next. Sparse reading decodes about half of it.
        preset: x264's trade of speed against size.
        tune: x264's tuning for a kind of picture; None tunes for none.
        chroma: `4:4:4` keeps the colour of each pixel, `4:2:0` that of each four. `auto` builds 4:4:4 of
            sources with a palette or RGB, such as GIFs, whose dither 4:2:0 would blur; else 4:2:0.
    """

    crf: int = 23
    # A second or less at the usual rates: most of a sparse read is decoding up to the wanted frame.
    gop: int = 24
    preset: str = "veryfast"
    tune: str | None = None
    chroma: Literal["auto", "4:2:0", "4:4:4"] = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51 or self.gop < 1:
            raise UserError(f"crf must be 0 to 51 and gop at least 1, got crf={self.crf} gop={self.gop}")
        for name, known in (("preset", _PRESETS), ("tune", (None, *_TUNES)), ("chroma", _CHROMAS)):
            if (value := getattr(self, name)) not in known:
                raise UserError(
                    f"x264 has no {name} {value!r}; choose one of {', '.join(filter(None, known))}"
                )

    @property
    def pixels(self) -> str:
        """FFmpeg's name of the pixel format."""
        return "yuv444p" if self.chroma == "4:4:4" else "yuv420p"

    def of_source(self, picture: av.VideoFrame) -> "Encoding":
        """Returns the options for a source with pictures like this one; `auto` is decided."""
        if self.chroma != "auto":
            return self
        own_colours = picture.format.is_rgb or picture.format.has_palette
        return replace(self, chroma="4:4:4" if own_colours else "4:2:0")

    def options(self) -> dict[str, str]:
        """Returns the options by x264's names."""
        # One thread: with several the slices, and so the bytes, depend on the number of threads.
        chosen = {"crf": str(self.crf), "g": str(self.gop), "preset": self.preset, "threads": "1"}
        if _has_avx512():
            # x264's AVX-512 code for `mbtree` sometimes reads memory that nothing was written to, and then
            # equal frames give other bytes. Its AVX2 code gives the bytes of all other processors.
            chosen["x264-params"] = f"asm={_UP_TO_AVX2}"
        return chosen | ({"tune": self.tune} if self.tune else {})


@dataclass(frozen=True)
class Audio:
    """Mono sound: `samples` (n,) int16 at `rate` per second."""

    samples: np.ndarray = field(repr=False)
    rate: int


def encode_video(
    frames: Iterable[np.ndarray | av.VideoFrame],
    fps: Fraction,
    encoding: Encoding = Encoding(),
    audio: Audio | None = None,
) -> bytes:
    """Returns an mp4 with its index in front, in which frame k is shown at k / fps.

    Frames are (H, W, 3) uint8 RGB or VideoFrames of one size; times of VideoFrames are ignored. 4:2:0 needs
    even sides, so an odd last column or row is cut off. Sound becomes an AAC track that starts with the
    first frame. Raises ClipError if there are no frames or their sizes differ.
    """
    pictures = _even(_video_frames(frames), encoding.pixels)
    first = next(pictures, None)
    if first is None:
        raise ClipError("no frames", "there is nothing to encode")
    file = io.BytesIO()
    with av.open(file, "w", "mp4", options=_MP4, io_open=_reader_of(file)) as container:
        video = container.add_stream("libx264", rate=fps, options=encoding.options())
        video.width, video.height, video.pix_fmt = first.width, first.height, encoding.pixels
        streams = [_video_packets(video, itertools.chain([first], pictures), fps)]
        if audio is not None and len(audio.samples):
            track = container.add_stream("aac", rate=audio.rate, layout="mono", options=_AAC)
            streams.append(_audio_packets(track, audio))
        # Interleaved by time: a reader of one clip should not have to seek between pictures and sound.
        for packet in heapq.merge(*streams, key=_decoding_time):
            container.mux(packet)
    return file.getvalue()


def encode_image(frame: np.ndarray, quality: int = 2) -> bytes:
    """Returns the JPEG of a (H, W, 3) uint8 RGB picture; `quality` is 1 (best) to 31."""
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = picture.width, picture.height, "yuvj420p"
    codec.time_base = Fraction(1, 25)
    # Both the same, or the encoder would vary the quality with the picture.
    codec.options = {"qmin": str(quality), "qmax": str(quality), "threads": "1"}
    return b"".join(bytes(packet) for packet in (*codec.encode(picture), *codec.encode(None)))


def _reader_of(file: io.BytesIO) -> Callable[[str, int, dict[str, str]], io.BytesIO]:
    """Returns a reader of what was written: the muxer reads it back to move the index to the front."""
    return lambda url, flags, options: io.BytesIO(file.getvalue())


def _video_frames(frames: Iterable[np.ndarray | av.VideoFrame]) -> Iterator[av.VideoFrame]:
    for frame in frames:
        if isinstance(frame, np.ndarray):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
        yield frame


def _even(frames: Iterator[av.VideoFrame], pixels: str) -> Iterator[av.VideoFrame]:
    """Yields frames in the colours that players assume for untagged H.264, with even sides."""
    graph, alike = None, None
    for frame in frames:
        size = (frame.width, frame.height, frame.format.name)
        if graph is None:
            graph, alike = _graph(frame, pixels), size
        if size != alike:
            raise ClipError("undecodable", f"the frames change from {alike} to {size}")
        graph.push(frame)
        yield graph.vpull()


def _graph(frame: av.VideoFrame, pixels: str) -> av.filter.Graph:
    width, height = frame.width & ~1, frame.height & ~1
    if not width or not height:
        raise ClipError("absurd size", f"frames of {frame.width} x {frame.height}")
    return filter_graph(
        frame,
        [
            ("crop", f"{width}:{height}:0:0:exact=1"),
            # Players take an untagged small video for BT.601 of limited range.
            ("scale", "flags=bicubic:out_range=tv:out_color_matrix=bt601:threads=1"),
            ("format", pixels),
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
