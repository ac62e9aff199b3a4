"""Serves each step from one of several loaders, in an order that all hosts agree on."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ivjax.data_pipelines.load.loader import BatchRequest, Loader
from ivjax.data_pipelines.load.mixture import Dialogues, Media, path_of_medium
from ivjax.errors import UserError


class MediumBatch(NamedTuple):
    """This host's rows of one global batch.

    Attributes:
        medium: the kind of batch.
        number: how many batches of this medium came before.
        rows: array name -> (rows of this host, ...).
    """

    medium: str
    number: int
    rows: dict[str, np.ndarray]


class MediaLoader(Iterator[MediumBatch]):
    """Takes each step's batch from one of several loaders.

    Of every `sum(batches.values())` steps, the loader of each medium serves `batches[medium]`, in an order
    that `seed` shuffles anew every time. Which medium serves a step follows from the step alone.
    """

    def __init__(self, loaders: Mapping[str, Loader], batches: Mapping[str, int], seed: int):
        if loaders.keys() != batches.keys() or min(batches.values(), default=0) < 1:
            raise UserError(
                f"batches of media {dict(batches)} must give at least 1 for each of {', '.join(loaders)}"
            )
        self._loaders = dict(loaders)
        self._pile = np.repeat(np.arange(len(loaders)), [batches[name] for name in loaders])
        self._names = list(loaders)
        self._seed = seed
        self._step = 0
        self._shuffled, self._order = -1, self._pile  # the last epoch that was shuffled, and its order

    def medium(self, step: int) -> str:
        """Returns the medium that serves a step."""
        epoch, place = divmod(step, len(self._pile))
        if epoch != self._shuffled:
            # A generator for each epoch, so that a resumed run need not replay the epochs before.
            self._order = np.random.default_rng([self._seed, epoch]).permutation(self._pile)
            self._shuffled = epoch
        return self._names[self._order[place]]

    def __next__(self) -> MediumBatch:
        medium, number = self.medium(self._step), self._served(self._step)
        rows = next(self._loaders[medium])
        self._step += 1
        return MediumBatch(medium, number, rows)

    def _served(self, step: int) -> int:
        """Returns how many batches of the medium of `step` came before; `medium` has shuffled its epoch."""
        epoch, place = divmod(step, len(self._pile))
        medium = self._order[place]
        before = np.count_nonzero(self._order[:place] == medium)
        return int(epoch * np.count_nonzero(self._pile == medium) + before)

    @property
    def media(self) -> tuple[str, ...]:
        """The media that it serves."""
        return tuple(self._names)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences for a person about what is read."""
        return tuple(line for loader in self._loaders.values() for line in loader.remarks)

    def report(self) -> dict[str, float]:
        """Returns the metrics of all loaders, prefixed with the medium if there are several."""
        if len(self._loaders) == 1:
            return next(iter(self._loaders.values())).report()
        reports = {name: loader.report() for name, loader in self._loaders.items()}
        return {f"{name}/{key}": value for name, report in reports.items() for key, value in report.items()}

    def state(self) -> Mapping[str, Any]:
        """Returns the position after the last batch, as JSON."""
        return {
            "step": self._step,
            "loaders": {name: dict(loader.state()) for name, loader in self._loaders.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues after the batch at which `state` was taken; a KeyError says that it is none."""
        was = state["loaders"].keys()
        if was != self._loaders.keys():
            raise UserError(
                f"this run has been reading {', '.join(was) or 'other data'} and is now given "
                f"{', '.join(self._loaders)}; put the old data back, or start a new run"
            )
        self._step = state["step"]
        for name, loader in self._loaders.items():
            loader.restore(state["loaders"][name])

    def close(self) -> None:
        """Closes all loaders."""
        for loader in self._loaders.values():
            loader.close()


def open_media(data: Any, requests: Mapping[str, BatchRequest], eval_clips: bool = False) -> MediaLoader:
    """Opens the mixtures of a Media; a single source serves the first of `requests`, which are by medium."""
    if isinstance(data, Dialogues):
        served = data.open_media(requests, eval_clips)
        return MediaLoader(served.loaders, served.steps, next(iter(requests.values())).seed)
    # A single source need not say which medium it is: it serves the one that the stage names first.
    if not isinstance(data, Media):
        name, request = next(iter(requests.items()))
        return MediaLoader({name: data.open(request, eval_clips)}, {name: 1}, request.seed)
    if unknown := [name for name in data.mixtures if name not in requests]:
        raise UserError(
            f"the stage takes no {' and no '.join(unknown)} batches, only {' and '.join(requests)}; "
            "leave them out of data.mixtures"
        )
    loaders: dict[str, Loader] = {}
    try:
        for name, mixture in data.mixtures.items():
            loaders[name] = mixture.open(replace(requests[name], path=path_of_medium(name)), eval_clips)
    except BaseException:
        # The decode processes of those that did open would live on.
        for loader in loaders.values():
            loader.close()
        raise
    # As the originals, which put the batches of all media into one pile and shuffle it.
    in_proportion = {name: max(loader.epoch // requests[name].batch, 1) for name, loader in loaders.items()}
    seed = next(iter(requests.values())).seed
    return MediaLoader(loaders, in_proportion | dict(data.steps), seed)
