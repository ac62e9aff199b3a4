"""Cleans captions, joins them, and puts classes into prompts, as the contrastive stages do."""

import re
from collections.abc import Iterable, Mapping

_REWRITE = str.maketrans({**dict.fromkeys(",.'!?\"()*#:;~"), "-": " ", "/": " "})
_SPACES = re.compile(r"\s{2,}")
SEEN = "video"  # the kind that a clip's own captions are of, if it has no others of it

ACTION_PROMPTS = (
    "a photo of action {}",
    "a picture of action {}",
    "Human action of {}",
    "{}, an action",
    "{} this is an action",
    "{}, a video of action",
    "Playing action of {}",
    "{}",
    "Playing a kind of action, {}",
    "Doing a kind of action, {}",
    "Look, the human is {}",
    "Can you recognize the action of {}?",
    "Video classification of {}",
    "A video of {}",
    "The man is {}",
    "The woman is {}",
)
"""The templates that zero-shot action recognition averages over, in the original's order."""


def clean_caption(caption: str, words: int | None = None) -> str:
    """Returns a caption in lower case without most punctuation, cut after `words` words."""
    # As the originals: hyphen and slash part words, other marks vanish, which joins "it's" to "its".
    text = caption.lower().translate(_REWRITE).replace("<person>", "person")
    # Single tabs stay, and only outer newlines and blanks go, because released token ids depend on it.
    text = _SPACES.sub(" ", text).rstrip("\n").strip(" ")
    return text if words is None else " ".join(text.split(" ")[:words])


def captions_of_kind(
    kind: str, captions: tuple[str, ...], texts: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Returns the captions of a kind, of a clip with its own `captions` and further `texts` by kind."""
    found = texts.get(kind, ())
    return captions if kind == SEEN and not found else found


def join_paragraph(captions: Iterable[str]) -> str:
    """Joins the captions of one video, given in order of time."""
    # One blank, on which the token ids of paragraphs depend.
    return " ".join(captions)


def count_words(caption: str) -> int:
    """Counts the words of a cleaned caption; the originals train on captions of at least 2."""
    return len(clean_caption(caption).split())


def action_prompts(action: str) -> tuple[str, ...]:
    """Returns the 16 cleaned captions that stand for an action class."""
    return tuple(clean_caption(template.format(action)) for template in ACTION_PROMPTS)
