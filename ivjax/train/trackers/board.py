"""TensorBoard's files, written by the train loop itself.

tensorboardX's own writer hands values to a thread. Where that dies, as on a full disk, the loop waits for it
for ever.
"""

import time
from collections.abc import Mapping
from pathlib import Path


class Board:
    """One file of events in a folder; TensorBoard drops what earlier files have of steps after `step`."""

    def __init__(self, folder: Path, step: int):
        # Only a run needs them, not what imports the options.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        # Two starts may fall into one second, which is all that the name would tell them apart by.
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        if step:
            start = SessionLog(status=SessionLog.START)
            self._writer.write_event(Event(step=step + 1, session_log=start))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the values of one step; raises OSError where they cannot be written."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=points))
        self._writer.write_event(event)
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Closes the file, which says nothing of how the run has ended."""
        self._writer.close()
