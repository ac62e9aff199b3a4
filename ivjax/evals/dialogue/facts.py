"""What every test of dialogue models states about itself."""

from datetime import UTC, datetime
from typing import Any

from ivjax.evals.dialogue.answer_model import AnswerModel
from ivjax.evals.suites.dialogue import DialogueSuite
from ivjax.evals.vectors import Setting
from ivjax.version import __version__


def facts_of_dialogue(setting: Setting[Any], suite: DialogueSuite, questions: int) -> dict[str, Any]:
    """Returns model, test set, what is seen of a video, how it is asked, sizes and date."""
    model: AnswerModel = setting.encoder
    return {
        "weights": setting.weights,
        "data": setting.data.path,
        "limit": setting.data.limit,
        "questions": questions,
        "frames": suite.frames if suite.frames is not None else f"the model's own rule: {model.seeing}",
        "videos": "black frames in their place" if suite.blind else "as they are",
        "image": list(model.image),
        "conversations": model.style,
        "visual tokens": "all of the tower, unmerged" if suite.unmerged else "as the model merges them",
        "tokens of a reply at most": suite.new,
        "computes in": suite.dtype,
        "broken share allowed": setting.broken,
        "kind of the data": setting.data.kind,
        "folder of the videos": setting.data.videos,
        "options of the data": dict(setting.data.options),
        "ivjax": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
