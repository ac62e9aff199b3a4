"""Makes clips in a child process, so that a decoder that crashes or hangs costs one row, not the build."""

import sys
from dataclasses import replace
from types import TracebackType

from ivjax.data_pipelines.build.clip_recipe import ClipRecipe, Drop, Outcome
from ivjax.data_pipelines.build.make_clips import make_outcome
from ivjax.data_pipelines.build.pieces import Pieces, SplitRequest, split_row
from ivjax.data_pipelines.child import Child, LostError, SteadyChild, serve
from ivjax.data_pipelines.sources.row import SourceRow
from ivjax.data_pipelines.store.records import ClipError
from ivjax.errors import UserError

_ATTEMPTS = 2  # a crash may have been caused by an earlier row; a hang is not tried again


class GuardedMaker:
    """Makes the clips of one row at a time; a row, or each piece of one that is split, may take `seconds`."""

    def __init__(self, recipe: ClipRecipe, seconds: float):
        self._recipe = recipe
        self._child = SteadyChild(lambda: Child("ivjax.data_pipelines.build.guard", recipe))
        self._seconds = seconds

    def make(self, row: SourceRow) -> Outcome:
        """Returns the outcome of a row; a drop if the row crashes or hangs the process."""
        if not self._recipe.splits:
            return _outcome(self._ask(row, row))
        answer = self._ask(SplitRequest(row), row)
        if not isinstance(answer, Pieces):
            return _outcome(answer)
        # Piece by piece: hours of video may take longer than a row may, and one bad minute costs one clip.
        made = [_outcome(self._ask(piece, piece)) for piece in answer.rows]
        return Outcome(
            tuple(record for outcome in made for record in outcome.records),
            tuple(drop for outcome in made for drop in outcome.drops),
            (*answer.remarks, *(remark for outcome in made for remark in outcome.remarks)),
        )

    def _ask(self, question: SourceRow | SplitRequest, row: SourceRow) -> Outcome | Pieces | UserError:
        for _ in range(_ATTEMPTS):
            try:
                return self._child.ask(question, self._seconds)
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


def _outcome(answer: Outcome | Pieces | UserError) -> Outcome:
    if isinstance(answer, UserError):
        raise answer
    assert isinstance(answer, Outcome)
    return answer


def _dropped(row: SourceRow, cause: str, detail: str) -> Outcome:
    return Outcome(drops=(Drop(row.id, row.path, cause, detail),))


def _serve(question: SourceRow | SplitRequest, recipe: ClipRecipe) -> Outcome | Pieces | UserError:
    row = question.row if isinstance(question, SplitRequest) else question
    try:
        if isinstance(question, SplitRequest):
            return split_row(row, recipe)
        return make_outcome(row, replace(recipe, shots=None, windows=None))
    except ClipError as error:
        return _dropped(row, error.cause, error.detail)
    except UserError as error:
        return error
    except Exception as error:  # whatever a strange file provokes must not end the build
        return _dropped(row, "error", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    serve(int(sys.argv[1]), lambda recipe: lambda row: _serve(row, recipe))
