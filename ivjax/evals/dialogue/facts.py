"""What every test of dialogue models states about itself."""

from datetime import UTC, datetime
from typing import Any

from ivjax.evals.dialogue.answer_model import AnswerModel
from ivjax.evals.suites.dialogue import DialogueSuite
from ivjax.evals.vectors import Setting


def facts_of_dialogue(setting: Setting[Any], suite: DialogueSuite, questions: int) -> dict[str, Any]:
    """Returns model, test set, what is seen of a video, how it is asked, sizes and date."""
    model: AnswerModel = setting.encoder
    return {
        "weights": setting.weights,
        "data": setting.data.path,
        "limit": setting.data.limit,
        "questions": questions,
        "frames": suite.frames if suite.frames is not None else f"the model's own rule: {model.seeing}",
        "image": list(model.image),
        "conversations": model.style,
        "tokens of a reply at most": suite.new,
        "computes in": suite.dtype,
        "broken share allowed": setting.broken,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
