"""Texts of every kind, always the same ones: what captions hold, and what nobody would write."""

import pydoc_data.topics
import random
import unicodedata

ENGLISH = "\n".join(pydoc_data.topics.topics.values())  # half a megabyte of prose in every Python
_WORDS = sorted(set(ENGLISH.split()))
_BLOCKS = (
    *((0x00, 0x20), (0x20, 0x7F), (0x7F, 0xA0), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x400)),
    *((0x400, 0x530), (0x591, 0x5F5), (0x600, 0x700), (0x900, 0x980), (0xE00, 0xE5C), (0x10A0, 0x1100)),
    *((0x1100, 0x1200), (0x1E00, 0x2000), (0x2000, 0x2070), (0x2100, 0x2C00), (0x3040, 0x3100)),
    *((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xE000, 0xE010), (0xF900, 0xFB00)),
    *((0xFB00, 0xFB50), (0xFE00, 0xFE10), (0xFF00, 0xFFF0), (0x1D400, 0x1D800), (0x1F300, 0x1FA00)),
    *((0x20000, 0x2CEB0), (0xE0000, 0xE0080), (0x0, 0x110000)),
)
_SPACES = (
    *(" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2003", "\u2028", "\x1c", "\x85", "\x0b"),
    "\u200b",
)
_SAYINGS = (
    *("<|startoftext|>", "<|endoftext|>", "<|im_end|>", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]"),
    *("</w>", "##ing", "&amp;", "&lt;b&gt;", "&amp;amp;", "&#39;", "&eacute;", "don't", "I'LL", "WE'VE"),
    *("it's", "'S", "ΟΔΟΣ", "ΣΑΣ", "İstanbul", "STRASSE ß ẞ", "e\u0301", "e\u0301\u0302", "﷽", "x'ſ"),
    *("α\u0345", "👩\u200d👩\u200d👧", "🇩🇪", "한국어", "ﬁﬃ"),
)
_SIGNS = "!?.,;:-_'\"()[]{}<>/\\|@#$%^&*+=~`"


def fuzzed_texts(count, seed):
    """Returns `count` texts of words, scripts, signs, numbers, blanks, long words and special tokens."""
    draw = random.Random(seed)
    lengths = (0, 1, 1, 2, 3, 5, 8, 12)
    return ["".join(_piece(draw) for _ in range(draw.choice(lengths))) for _ in range(count)]


def _piece(draw):
    word = draw.choice(_WORDS)
    block = draw.choice(_BLOCKS)
    kinds = (
        lambda: word,
        lambda: draw.choice((word.upper(), word.title(), word.swapcase())),
        lambda: _characters(draw, [block]),
        lambda: _characters(draw, _BLOCKS),
        lambda: draw.choice(_SAYINGS),
        lambda: "".join(draw.choices(_SIGNS, k=draw.randrange(1, 12))),
        lambda: str(draw.randrange(10 ** draw.randrange(1, 12))),
        lambda: draw.choice(_SPACES) * draw.randrange(1, 4),
        lambda: draw.choice("abcxyz中é") * draw.choice((1, 3, 99, 100, 101, 300)),
        lambda: word + chr(draw.randrange(0x300, 0x370)) + draw.choice(_WORDS),
    )
    return draw.choice(kinds)() + draw.choice(("", " ", " "))


def _characters(draw, blocks):
    found = (chr(draw.randrange(*draw.choice(blocks))) for _ in range(draw.randrange(1, 9)))
    # Code points that this Python's Unicode does not know yet may be letters to a newer one; halves of
    # characters are no text.
    return "".join(char for char in found if unicodedata.category(char) not in ("Cn", "Cs"))
