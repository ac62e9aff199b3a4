"""Graphs of FFmpeg's filters, and the one that has a memory: deinterlacing."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import av

# One frame for each frame, of the field that was filmed first; frames that are not interlaced pass unchanged.
_DEINTERLACER = ("bwdif", "mode=send_frame:parity=auto:deint=interlaced")


def filter_graph(frame: av.VideoFrame, steps: Iterable[tuple[str, str]]) -> av.filter.Graph:
    """Returns a configured graph of (name, arguments) steps for frames like `frame`: push one, pull one."""
    graph = av.filter.Graph()
    graph.threads = 1  # by default each graph starts one thread for each core
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 25),  # pictures have none
    )
    nodes = [graph.add(name, arguments) for name, arguments in steps]
    graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
    return graph


class Deinterlacer:
    """Makes whole pictures of interlaced frames, which show two moments in alternating rows.

    Attributes:
        met: whether an interlaced frame has come.
    """

    def __init__(self) -> None:
        self.met = False

    def all(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Yields the frames of a video in order, deinterlaced; times are kept."""
        before: av.VideoFrame | None = None
        frames = iter(frames)
        for frame in frames:
            if frame.interlaced_frame:
                self.met = True
                # The filter looks at the frames before and behind, so it sees the one before, too.
                lead = [] if before is None else [before]
                filtered = _deinterlaced(itertools.chain(lead, [frame], frames))
                for _ in lead:
                    next(filtered)
                yield from filtered
                return
            yield frame
            before = frame

    def one(self, neighbours: Sequence[av.VideoFrame], place: int) -> av.VideoFrame:
        """Returns the frame at `place` of a few that follow each other, deinterlaced."""
        if not neighbours[place].interlaced_frame:
            return neighbours[place]
        self.met = True
        return list(_deinterlaced(neighbours))[place]


def _deinterlaced(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    graph: av.filter.Graph | None = None
    waiting: deque[av.VideoFrame] = deque()
    for frame in frames:
        graph = graph or filter_graph(frame, [_DEINTERLACER])
        waiting.append(frame)
        graph.push(frame)
        yield from _pulled(graph, waiting)
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, waiting)


def _pulled(graph: av.filter.Graph, waiting: deque[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yields what the graph has ready, with the times of the frames that went in."""
    while waiting:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        source = waiting.popleft()
        # The filter counts in half ticks.
        frame.pts, frame.duration = source.pts, source.duration
        if source.time_base is not None:
            frame.time_base = source.time_base
        yield frame
