"""Makes clips in a child process, so that a decoder that crashes or hangs costs one row, not the build."""

import sys
from types import TracebackType

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, Drop, Outcome
from ivjax.data_pipelines.build.make_clips import make_outcome
from ivjax.data_pipelines.child import Child, LostError, SteadyChild, serve
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.errors import UserError

_ATTEMPTS = 2  # a crash may have been caused by an earlier row; a hang is not tried again


class GuardedMaker:
    """Makes the clips of one row at a time; a row may take `seconds`."""

    def __init__(self, recipe: ClipRecipe, seconds: float):
        self._child = SteadyChild(lambda: Child("ivjax.data_pipelines.build.guard", recipe))
        self._seconds = seconds

    def make(self, row: SourceRow) -> Outcome:
        """Returns the outcome of a row; a drop if the row crashes or hangs the process."""
        for _ in range(_ATTEMPTS):
            try:
                return _outcome(self._child.ask(row, self._seconds))
            except LostError as error:
                lost = error
                if error.cause == "hang":
                    break
        return _dropped(row, lost.cause, lost.detail)

    def abandon(self) -> None:
        """Ends the row that another thread is making, and refuses later ones."""
        self._child.abandon()

    def close(self) -> None:
        """Ends the process."""
        self._child.close()

    def __enter__(self) -> "GuardedMaker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _outcome(answer: Outcome | UserError) -> Outcome:
    if isinstance(answer, UserError):
        raise answer
    return answer


def _dropped(row: SourceRow, cause: str, detail: str) -> Outcome:
    return Outcome(drops=(Drop(row.id, row.path, cause, detail),))


def _serve(row: SourceRow, recipe: ClipRecipe) -> Outcome | UserError:
    try:
        return make_outcome(row, recipe)
    except UserError as error:
        return error
    except Exception as error:  # whatever a strange file provokes must not end the build
        return _dropped(row, "error", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    serve(int(sys.argv[1]), lambda recipe: lambda row: _serve(row, recipe))
