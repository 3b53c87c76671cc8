"""Words of others, made fit for a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.transport import DamagedMessage, MessageError
from lerobot_serl.words import printable


@pytest.mark.parametrize(
    ("text", "words"), [("déjà vu", "déjà vu"), ("a\nb\x1b[31m\u202e\ud800", "a?b?[31m??"), ("", ""), ("0123456789", "01234")]
)
def test_what_cannot_be_printed_is_replaced(text, words):
    assert printable(text, 10 if len(words) > 5 else 5) == words
    assert printable("a\tb", instead=" ") == "a b"


@given(st.text(), st.integers(0, 50))
def test_it_stays_in_its_line_whatever_it_is(text, most):
    words = printable(text, most)
    assert words.isprintable()
    assert len(words) == min(len(text), most)
    assert printable(words, most) == words


@pytest.mark.parametrize("kind", [MessageError, DamagedMessage])
def test_what_is_wrong_with_a_message_fits_a_line(kind):
    said = str(kind("a\nb\x1b" + "x" * 5000))
    assert said.startswith("a?b?xxx")
    assert len(said) < 1000
