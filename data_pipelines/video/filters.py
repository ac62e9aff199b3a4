"""Graphs of FFmpeg's filters."""

from collections.abc import Iterable
from fractions import Fraction

import av


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
