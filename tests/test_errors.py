"""The text of an error: one line that any terminal shows as it is, and no longer than a person reads."""

import pickle

import pytest

from ivjax.errors import UserError, readable


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a file", "a file"),
        ("日本 é", "日本 é"),
        ("two\n  lines", "two lines"),
        ("\x1b[2Jred\x07", "\\x1b[2Jred\\x07"),
        ("half \ud83d", "half \\ud83d"),
        ("turned \u202e round", "turned \\u202e round"),
        ("nul\0", "nul\\x00"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text, shown):
    assert readable(text) == str(UserError(text)) == shown
    assert readable(shown) == shown


def test_of_a_long_message_the_beginning_and_the_end_are_shown():
    said = str(UserError(f"{'x' * 100_000}; choose another name"))
    assert len(said) < 3100 and said.startswith("xxx") and said.endswith(" xx; choose another name"[4:])
    assert readable("a" * 50 + "b" * 50, 20) == "a" * 15 + " ... " + "b" * 5


def test_further_lines_are_shown_below_and_stay_when_an_error_is_sent_to_another_process():
    error = UserError("3 clips are broken", "the\nfirst", "the second")
    assert str(error) == str(pickle.loads(pickle.dumps(error)))
    assert str(error) == "3 clips are broken\n  the first\n  the second"
