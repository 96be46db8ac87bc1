"""Claims about comparable text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.text import normalize_words, squash_whitespace


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("I don\u2019t; you don't.", ["i", "dont", "you", "dont"]),
        ("It costs $3.50, i.e. 1,000 at 10:30.", ["it", "costs", "3.50", "i", "e", "1,000", "at", "10:30"]),
        ("self-service [EMAIL_1]", ["self", "service", "email", "1"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("\ufb01ne \uff21\uff11", ["fine", "a1"]),
        ("退货吗 ok", ["退", "货", "吗", "ok"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("\u00e9t\u00e9 e\u0301te\u0301", ["\u00e9t\u00e9", "\u00e9t\u00e9"]),
        ("👍 \n\t…", []),
        ("", []),
    ],
)
def test_words_are_what_the_definition_says(text, words):
    assert normalize_words(text) == words


@given(st.text())
def test_normalizing_twice_changes_nothing(text):
    words = normalize_words(text)
    assert normalize_words(" ".join(words)) == words


@given(st.text())
def test_case_and_white_space_do_not_matter(text):
    assert normalize_words(f"  {text}\n") == normalize_words(text)


@given(st.text())
def test_squashed_text_has_single_inner_spaces(text):
    squashed = squash_whitespace(text)
    assert squashed == squashed.strip()
    assert "  " not in squashed
    assert "\n" not in squashed
    assert squashed.split() == text.split()
