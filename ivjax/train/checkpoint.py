"""Checkpoints: asynchronous, atomic, restored onto whatever mesh the run has now."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from ivjax.convert.formats.orbax_files import item_tree
from ivjax.convert.formats.seal import damage, sealed
from ivjax.drafts import set_aside
from ivjax.errors import UserError, in_short
from ivjax.experiment.buckets import disown, in_bucket, is_committed, storage
from ivjax.experiment.run_folder import CHECKPOINTS
from ivjax.experiment.run_options import Checkpointing
from ivjax.ops.trees import paths_of
from ivjax.progress import Say
from ivjax.train.saving import FailedSaves, reason
from ivjax.train.step import State

_args = ocp.args
_log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A checkpoint read back: state, the loader's position, and what was stored about the run."""

    step: int
    state: State
    data: dict[str, Any]
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run folder.

    Parameters, EMA and the rest of the state are separate items, so evals read parameters alone. A save that
    fails is said through `say`; `saving.py` has how many may.
    """

    def __init__(self, folder: Path, keep: Checkpointing, say: Say = print):
        self._folder = storage(folder) / CHECKPOINTS
        self._keep = keep
        self._say = say
        self._failures = FailedSaves(folder, say)
        self._under_way: int | None = None  # the step whose save has begun
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        if jax.process_index() == 0:
            self._tidy()
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoints opened")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep.keep_last,
            keep_period=self._keep.keep_every,
            save_interval_steps=1,
            enable_async_checkpointing=True,
            # In the background they could fail without those who wait for them learning of it for minutes.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        return ocp.CheckpointManager(self._folder, options=options)

    def _tidy(self) -> None:
        if self._folder.exists() and not self._folder.is_dir():
            aside = set_aside(Path(self._folder))
            _log.warning("%s is no folder; it is %s now", self._folder, aside.name)
        # What a save that was killed has left takes as much room as a checkpoint.
        for entry in self._folder.glob("*"):
            if ".orbax-checkpoint-tmp" in entry.name or not is_committed(entry):
                entry.rmtree(missing_ok=True)

    def due(self, step: int) -> bool:
        """Whether a save is planned after `step` steps."""
        return step % self._keep.every == 0

    def save(
        self,
        step: int,
        state: State,
        data: Mapping[str, Any],
        meta: Mapping[str, Any],
        last: bool = False,
    ) -> None:
        """Starts a save; returns once the arrays are copied. Saving a step twice does nothing.

        The `last` one is waited for, and raises UserError if it fails.
        """
        self._settle()
        # The last step, or one that a stop follows, may have been saved on schedule already.
        if step not in self._manager.all_steps():
            try:
                self._begin(step, state, data, meta)
                self._under_way = step
            except Exception as error:  # whatever disks and mounts raise, deep in the writer
                self._failed(step, error, last)
        if last:
            self._settle(last)

    def _begin(self, step: int, state: State, data: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        # The loader's position and what the run is are in the same checkpoint as the state: they become
        # valid together, in one move of its folder.
        items = {name: _args.StandardSave(item) for name, item in _split(state).items()}
        items |= {"data": _args.JsonSave(dict(data)), "meta": _args.JsonSave(sealed(meta, data, state))}
        # `due` decides when to save, and a stop saves at any step; Orbax's own policy would refuse that.
        self._manager.save(step, args=_args.Composite(**items), force=True)

    def _settle(self, last: bool = False) -> None:
        """Waits for the save under way, and learns whether it is whole."""
        step, self._under_way = self._under_way, None
        if step is None:
            return
        try:
            self._manager.wait_until_finished()
            self._failures.succeeded()
        except Exception as error:
            self._failed(step, error, last)

    def _failed(self, step: int, error: Exception, last: bool) -> None:
        self._failures.failed(step, error, last)
        # A new manager: the old one counts the save as begun, and closing it would wait for what never comes.
        self._manager = self._open()

    def restore(
        self, target: State, place: Callable[[Mapping[str, Any]], None] = lambda position: None
    ) -> Restored | None:
        """The newest readable checkpoint, as `target` (shapes with shardings); None if there is none.

        An unreadable one is set aside with a warning and the one before it is used. `place` is given the
        loader's position, and raises whatever it likes if that is none.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            found, problem = self._attempt(step, target, place)
            if found is not None:
                return found
            self._set_aside(step, problem)
        if steps:
            raise UserError(
                f"none of the checkpoints {steps} in {self._folder.parent} can be read; they lie in "
                "unreadable-checkpoints: put a sound copy back, or run again to start from the beginning"
            )
        return None

    def _attempt(
        self, step: int, target: State, place: Callable[[Mapping[str, Any]], None]
    ) -> tuple[Restored | None, str]:
        """Reads checkpoint `step`; if any process cannot, none has it, and the text says why."""
        found, problem = None, "another process could not read it"
        try:
            stored = self._shapes(step)
            if "ema" in target and not _has(stored, "ema") and self._kept_average(step):
                raise ValueError("its ema is missing")
            _compare(self._folder / str(step), stored, target)
            read = self._read(step, target)
            if changed := damage(read.meta, read.data, read.state):
                raise ValueError(changed)
            place(read.data)
            found = read
        except UserError:
            raise
        except Exception as error:  # whatever a damaged file raises, deep in the reader
            problem = in_short(error)
        # Processes that fell back to different checkpoints would train different models.
        read_by_all = found is not None
        if jax.process_count() > 1:
            read_by_all = bool(np.all(multihost_utils.process_allgather(np.array(read_by_all))))
        return (found if read_by_all else None), problem

    def _read(self, step: int, target: State) -> Restored:
        items = {name: _args.StandardRestore(item) for name, item in _split(target).items()}
        items |= {"data": _args.JsonRestore(), "meta": _args.JsonRestore()}
        found = self._manager.restore(step, args=_args.Composite(**items))
        if not isinstance(found["data"], dict) or not isinstance(found["meta"], dict):
            raise ValueError("what it says of its data or of its run is no mapping")
        if not isinstance(found["meta"].get("experiment"), dict):
            raise ValueError("it does not say what experiment it is of")
        state = dict(found["counters"]) | {name: found[name] for name in target if name in found}
        return Restored(step, state, found["data"], found["meta"])

    def _shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """Shape by path of everything that the checkpoint's own metadata lists."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name in ("params", "moments", "ema", "counters"):
            item = self._folder / str(step) / name
            if item.is_dir():
                tree = item_tree(item)
                shapes |= {f"{name}/{path}": tuple(leaf.shape) for path, leaf in paths_of(tree)}
        return shapes

    def _kept_average(self, step: int) -> bool:
        """Whether the run kept an average of its parameters when it saved this step."""
        meta = self._manager.restore(step, args=_args.Composite(meta=_args.JsonRestore()))["meta"]
        return bool(meta["experiment"]["ema"] != "none")

    def _set_aside(self, step: int, problem: str) -> None:
        # Moved, not deleted: a person may be able to save it. Left where it is, it would block its own step.
        aside = self._folder.parent / "unreadable-checkpoints" / str(step)
        where = "it is left out" if in_bucket(aside) else f"moved to {aside}"
        _log.warning("checkpoint %d cannot be read (%s); %s", step, problem, where)
        self._manager.close()
        if jax.process_index() == 0 and in_bucket(aside):
            disown(self._folder / str(step))
        elif jax.process_index() == 0:
            aside.parent.mkdir(exist_ok=True)
            aside.rmtree(missing_ok=True)
            (self._folder / str(step)).rename(aside)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"set aside {step}")
        self._manager = self._open()

    def stop_requested(self, step: int) -> bool:
        """Whether the cluster asked any process of this job to stop (agreed on by all, at one step)."""
        return jax.process_count() > 1 and self._manager.reached_preemption(step)

    def close(self) -> None:
        """Commits what is under way and releases the threads."""
        step, self._under_way = self._under_way, None
        # A run that ends with an error must say that one, and not what came of it.
        try:
            self._manager.close()
        except Exception as error:
            if step is not None:
                self._say(f"the checkpoint of step {step} could not be saved ({reason(error)})")


def _split(state: State) -> dict[str, Any]:
    """State -> items: params, moments, ema if any, and the counters."""
    items = {name: tree for name, tree in state.items() if name in ("params", "moments", "ema")}
    return items | {"counters": {name: leaf for name, leaf in state.items() if name not in items}}


def _has(stored: Mapping[str, tuple[int, ...]], item: str) -> bool:
    return any(path.startswith(f"{item}/") for path in stored)


def _compare(where: epath.Path, stored: Mapping[str, tuple[int, ...]], target: State) -> None:
    """Raises if what lies on disk is not this model's state: parameters first, then what follows them."""
    wanted = {path: tuple(leaf.shape) for path, leaf in paths_of(_split(target))}
    # Without any of these it is damaged; an EMA may be missing because the run kept none.
    for item in ("params", "moments", "counters"):
        if not _has(stored, item):
            raise ValueError(f"its {item} are missing")
    # One wrong parameter makes all that follows it wrong: naming the parameters alone is what helps.
    for item in ("params/", "ema/", ""):
        there = {path: shape for path, shape in stored.items() if path.startswith(item)}
        here = {path: shape for path, shape in wanted.items() if path.startswith(item)}
        both = there.keys() & here.keys()
        faults = [f"{p} is {there[p]} there and {here[p]} here" for p in both if there[p] != here[p]]
        faults += [f"{p} is only there" for p in there.keys() - here.keys()]
        faults += [f"{p} is only here" for p in here.keys() - there.keys()]
        if faults:
            more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
            raise UserError(
                f"checkpoint {where} is of another model: {'; '.join(sorted(faults)[:8])}{more}; "
                "use its own config, or another --workdir"
            )
