"""One text of what is seen, heard and said in a clip: captions of several kinds, fused."""

from collections.abc import Iterator
from dataclasses import dataclass

from ivjax.data_pipelines.fields.field import RowDraw
from ivjax.data_pipelines.store.records import Clip, ClipError
from ivjax.data_pipelines.tokenizers.caption_text import SEEN, captions_of_kind, clean_caption, count_words
from ivjax.errors import UserError
from ivjax.experiment.ranges import Count, Share

_PLACE = "{}"


@dataclass(frozen=True)
class CaptionPart:
    """A part of a fused text.

    Attributes:
        kind: `video`, `audio`, `speech`, or any other kind of which a corpus has captions.
        form: the words around a caption, which stands in place of `{}`.
        chance: the share of visits at which the part is there. Another part must be certain.
        needed: whether a clip without such a caption is broken; else the part is left out.
        least: the fewest words of a caption that counts.
        most: where a longer caption is cut (None: nowhere).
    """

    kind: str
    form: str = _PLACE
    chance: Share = 1.0
    needed: bool = True
    least: int = 1
    most: Count | None = None


@dataclass(frozen=True)
class CaptionMixer:
    """Fuses captions of several kinds into one text, part by part.

    Attributes:
        parts: the parts, in the order in which they are told. By default speech may be missing, as in the
            originals, and captions of what is seen and heard have two words at least.
    """

    parts: tuple[CaptionPart, ...] = (
        CaptionPart(SEEN, least=2),
        CaptionPart("audio", "while {}", least=2),
        CaptionPart("speech", "and someone says {}", needed=False),
    )

    def check(self, path: str) -> None:
        """Raises UserError for options that give no text; `path` is where they stand."""
        certain = [part for part in self.parts if part.needed and part.chance == 1.0]
        if not certain:
            raise UserError(f"{path}.parts are all left out at times; give one of them needed and chance 1")
        for number, part in enumerate(self.parts):
            if part.form.count(_PLACE) != 1:
                raise UserError(f"{path}.parts.{number}.form={part.form!r} must have {_PLACE} once")
            if not 0.0 < part.chance <= 1.0:
                raise UserError(f"{path}.parts.{number}.chance={part.chance} is no share above 0, up to 1")

    def check_record(self, record: Clip) -> None:
        """Raises ClipError for a clip that lacks a caption of a kind that is needed."""
        for part in self.parts:
            if part.needed and not _captions(part, record):
                raise ClipError(
                    f"no {part.kind} caption", f"clip {record.id} has none of {part.least} words or more"
                )

    def mix(self, record: Clip, draw: RowDraw, first: bool) -> str:
        """Returns the fused text of a clip, of a random caption of each kind or of the `first`.

        With `first` nothing is drawn: each part is there whose caption is. Raises ClipError as check_record.
        """
        self.check_record(record)
        return " ".join(self._parts(record, draw, first))

    def _parts(self, record: Clip, draw: RowDraw, first: bool) -> Iterator[str]:
        for number, part in enumerate(self.parts):
            captions, place = _captions(part, record), 0
            if not first:
                # By number, because two parts may be of one kind.
                rng = draw(f"caption part {number}")
                if rng.random() >= part.chance:
                    continue
                place = int(rng.integers(max(len(captions), 1)))
            if captions:
                yield part.form.replace(_PLACE, _cut(captions[place], part.most))


def _captions(part: CaptionPart, record: Clip) -> list[str]:
    """Returns the captions of a part's kind that are long enough."""
    found = captions_of_kind(part.kind, record.captions, record.texts)
    return [caption for caption in found if count_words(caption) >= part.least]


def _cut(caption: str, words: int | None) -> str:
    # Cut where the originals cut, in the cleaned text; one that is short enough stays as it is.
    if words is None or count_words(caption) <= words:
        return caption
    return clean_caption(caption, words)
