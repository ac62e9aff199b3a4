"""Options of zero-shot recognition."""

from dataclasses import dataclass

from ivjax.errors import UserError
from ivjax.evals.suites.fields import option
from ivjax.evals.suites.suite import NAMING, RankingSuite


@dataclass(frozen=True, kw_only=True)
class ZeroShot(RankingSuite):
    """A clip gets the class whose prompts it resembles most.

    Attributes:
        attribute: its values are the classes, instead of numbered labels; `caption` stands for a row's only
            caption.
        classes: a file of class names (None: all values of the attribute, or the test set's own names).
        prompts: templates with {} for the name (none: the 16 of action recognition, and one for attributes).
    """

    name = "zeroshot"
    about = "zero-shot recognition: the class whose prompts are nearest"
    IMPLEMENTATION = "ivjax.evals.scoring.recognising"
    METRICS = NAMING

    attribute: str | None = option(
        None, "tell apart the values of this attribute, not the numbered labels", metavar="A"
    )
    classes: str | None = option(
        None, "class names: a name a line, JSON, or a corpus's", metavar="FILE|CORPUS"
    )
    prompts: tuple[str, ...] = option(
        (), 'a prompt for the class {}, such as "a video of a {}"; repeatable', flag="prompt", metavar="T"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for template in self.prompts:
            if "{}" not in template:
                raise UserError(f"the prompt {template!r} has no {{}} where the class name goes")
