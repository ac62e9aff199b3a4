"""The kinds of video that people have, drawn: every frame carries its number as a bar code."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange

from ivjax.data_pipelines.video.filters import filter_graph
from tests.data_pipelines.footage import HEIGHT, WIDTH, coded, write_timed_video, write_video

RATE = 48_000
UNEVEN = [0, 40, 80, 200, 255, 500, 540, 613, 900, 1000, 1040, 1080, 1500, 1540]  # ms
SLOW = [0, 100, 400, 450, 1000, 1100, 1900]  # ms; by their average rate they would be off by 130 ms


STEADIED, DEINTERLACED = ("steadied",), ("deinterlaced",)
FIELDS = range(0, 72, 3)
_VP9 = {"cpu-used": "8", "lag-in-frames": "8", "auto-alt-ref": "1"}
_HEVC = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:bframes=2"}
_OPEN_GROUPS = {"x264-params": "open-gop=1:keyint=8:bframes=3:b-pyramid=2"}


@dataclass(frozen=True)
class Kind:
    """A kind of video.

    Attributes:
        name: of the file.
        draw: writes it.
        numbers: what its frames carry, at its rate.
        fps: its rate.
        remarks: what the builder's report says of it.
        turns: quarter turns that bring its stored pictures upright.
    """

    name: str
    draw: Callable[[Path], object]
    numbers: Sequence[int] = range(24)
    fps: int = 25
    remarks: tuple[str, ...] = ()
    turns: int = 0


def drawn(
    path: Path,
    codec: str = "libx264",
    pictures: Iterable[np.ndarray] | None = None,
    pixels: str = "yuv420p",
    turn: int = 0,
    field: str | None = None,
    fps: int = 25,
    first: Fraction = Fraction(0),
    base: Fraction | None = None,
    container: dict[str, str] | None = None,
    sound: bool = False,
    number: int = 0,
    **options: str,
) -> None:
    """Writes pictures, by default 24 from `number` on; `first` is the time of the first one in seconds."""
    base = base or Fraction(1, fps)
    pictures = list(map(coded, range(number, number + 24)) if pictures is None else pictures)
    with av.open(str(path), "w", options=container or {}) as file:
        video = file.add_stream(codec, rate=fps, options=options)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt, video.codec_context.time_base = pixels, base
        video.time_base = base
        track = file.add_stream("aac", rate=RATE, layout="mono") if sound else None
        if turn:
            video.set_display_rotation(turn)
        if track is not None:
            for frame in _sound():
                file.mux(track.encode(frame))
            file.mux(track.encode(None))
        for frame in _frames(pictures, pixels, field):
            frame.pts, frame.time_base = round((first + frame.pts * Fraction(1, fps)) / base), base
            file.mux(video.encode(frame))
        file.mux(video.encode(None))


def _frames(pictures: Iterable[np.ndarray], pixels: str, field: str | None) -> Iterator[av.VideoFrame]:
    graph: av.filter.Graph | None = None
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        if pixels != "rgb24":
            frame = frame.reformat(format=pixels, dst_color_range=ColorRange.MPEG)
        if field is not None:
            graph = graph or filter_graph(frame, [("setfield", field)])
            graph.push(frame)
            frame = graph.vpull()
        frame.pts, frame.pict_type = number, 0
        yield frame


def _sound(seconds: int = 1) -> Iterator[av.AudioFrame]:
    samples = (3000 * np.sin(np.arange(seconds * RATE) / 20)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    yield frame


def turned(path: Path, quarters: int) -> None:
    """A video of a camera that was held turned: stored pictures lie on a side."""
    drawn(path, pictures=[np.rot90(coded(n), -quarters) for n in range(24)], turn=90 * quarters)


def interlaced(path: Path, codec: str, **options: str) -> None:
    """Even rows of frame k carry 3k, odd rows 3k + 1: two moments in one picture."""
    pictures = [np.array(coded(number)) for number in FIELDS]
    for number, picture in zip(FIELDS, pictures, strict=True):
        picture[1::2] = coded(number + 1)[1::2]
    drawn(path, codec, pictures, field="tff", flags="+ildct+ilme", **options)


def cut_by_copying(path: Path, frames: int = 40, first: int = 17) -> None:
    """What `ffmpeg -ss 0.68 -i source.mp4 -c copy` writes: packets from the keyframe before, hidden."""
    source = path.with_name(f"source-of-{path.name}")
    write_video(source, frames)
    with av.open(str(source)) as whole, av.open(str(path), "w") as cut:
        stream = whole.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        begin = round(Fraction(first, 25) / stream.time_base)
        whole.seek(begin, stream=stream)
        for packet in whole.demux(stream):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.dts - begin, copy
                cut.mux(packet)
    source.unlink()


def dithered(path: Path) -> None:
    """A GIF whose dark bars are a chessboard of red and blue, as dither mixes colours."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    chess = np.where(((rows + columns) % 2)[..., None], (109, 0, 0), (0, 0, 85))
    pictures = [np.where(coded(n) < 100, chess, coded(n)).astype(np.uint8) for n in range(24)]
    drawn(path, "gif", pictures, "rgb8")


def sound_only(path: Path, cover: bool = False) -> None:
    """A file of sound, with the cover picture of a song if asked for."""
    with av.open(str(path), "w") as file:
        track = file.add_stream("aac", rate=RATE, layout="mono")
        picture = None
        if cover:
            picture = file.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        for frame in _sound():
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(np.array(coded(1)), "rgb24").reformat(format="yuvj420p")
            file.mux([*picture.encode(frame), *picture.encode(None)])


def four_k(path: Path) -> None:
    """Two frames of 3840 x 2160."""
    pictures = [np.repeat(np.repeat(coded(n), 2176 // HEIGHT, 0)[:2160], 3840 // WIDTH, 1) for n in range(2)]
    drawn(path, pictures=pictures, preset="ultrafast")


def late_start(path: Path) -> None:
    """A file whose clock starts at 1/6 s, which in whole microseconds is later: 0.166667 s."""
    drawn(path, fps=12, base=Fraction(1, 12288), container={"use_editlist": "0"})


def uneven(path: Path, times: Sequence[int], codec: str = "libx264") -> None:
    """A varying rate: frame k is shown from `times[k]` ms on."""
    write_timed_video(path, times, codec)


def _beats(times: Sequence[int], fps: int, last: int) -> list[int]:
    """The last frame whose nearest beat has come, at each beat; the last frame stands for `last` ms."""
    beats = round((times[-1] + last) * fps / 1000)
    places = [int(Fraction(time * fps, 1000) + Fraction(1, 2)) for time in times]
    return [max(n for n, place in enumerate(places) if place <= beat) for beat in range(beats)]


KINDS = (
    Kind("plain.mp4", partial(drawn, g="12")),
    Kind("quarter-turn.mp4", partial(turned, quarters=1), turns=1),
    Kind("half-turn.mp4", partial(turned, quarters=2), turns=2),
    Kind("three-quarter-turn.mov", partial(turned, quarters=3), turns=3),
    Kind("hidden-frames.webm", partial(drawn, codec="libvpx-vp9", **_VP9)),
    Kind("recorded.webm", partial(uneven, codec="libvpx", times=SLOW), _beats(SLOW, 20, 50), 20, STEADIED),
    Kind("no-presentation-times.avi", partial(drawn, codec="mpeg4", bf="2", b="4M")),
    Kind("ten-bit-422.mov", partial(drawn, codec="prores_ks", pixels="yuv422p10le")),
    Kind("ten-bit.mp4", partial(drawn, codec="libx265", pixels="yuv420p10le", **_HEVC)),
    Kind("film.mkv", partial(drawn, number=30, sound=True, g="12"), range(30, 54)),
    Kind("delayed-by-edit-list.mp4", partial(drawn, first=Fraction(2, 5), sound=True)),
    Kind("cut-by-copying.mp4", cut_by_copying, range(17, 40)),
    Kind("late-start.mp4", late_start, fps=12),
    Kind("uneven.mp4", partial(uneven, times=UNEVEN), _beats(UNEVEN, 25, 40), remarks=STEADIED),
    Kind("interlaced.mpg", partial(interlaced, codec="mpeg2video", b="4M"), FIELDS, 25, DEINTERLACED),
    Kind("interlaced.mts", partial(interlaced, codec="libx264", crf="10"), FIELDS, 25, DEINTERLACED),
    Kind("one-frame.mp4", partial(drawn, pictures=[coded(7)]), [7]),
    Kind("4k.mp4", four_k, range(2)),
    Kind("broadcast.ts", partial(drawn, number=60, sound=True, g="12"), range(60, 84)),
    Kind("dithered.gif", dithered),
    Kind("open-groups.mkv", partial(drawn, number=90, **_OPEN_GROUPS), range(90, 114)),
    Kind("bare.h264", partial(drawn, bf="2")),
    Kind("windows.wmv", partial(drawn, codec="wmv2", b="4M")),
    Kind("flash.flv", partial(drawn, codec="flv", b="4M")),
)
NO_VIDEO = {"sound.m4a": sound_only, "song.mp4": partial(sound_only, cover=True)}
