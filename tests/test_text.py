"""Claims about comparable text."""

import re
import unicodedata

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
def test_words_are_what_the_definition_says(text: str, words: list[str]) -> None:
    assert normalize_words(text) == words


def specified_words(text: str) -> list[str]:
    """Return the words by the definition written out, character by character."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = re.sub(r"['\u2018\u2019\u02bc]", "", folded)
    inside = {match.start() for match in re.finditer(r"(?<=\d)[.,:](?=\d)", folded)}
    kept = (
        char if place in inside or unicodedata.category(char)[0] not in "PSZC" else " "
        for place, char in enumerate(folded)
    )
    unspaced = r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f])"
    return re.sub(unspaced, r" \1 ", "".join(kept)).split()


TRICKY = st.text(st.sampled_from("aZé1٣.,:;' \u2019\u02bc\u0301\u00a0\x1c\x85\u200b退カ・ｶﾞßİﬁ½①-_[]\n👍ςΣ\ud800"))


@given(st.text() | TRICKY | st.text("ab1.,:'- \t", max_size=30))
def test_the_fast_way_and_the_definition_agree(text: str) -> None:
    assert normalize_words(text) == specified_words(text)


@pytest.mark.slow
def test_every_character_is_treated_as_the_definition_says() -> None:
    for code in range(0x110000):
        text = f"a{chr(code)}1.{chr(code)}b"
        assert normalize_words(text) == specified_words(text), hex(code)


@given(st.text())
def test_normalizing_twice_changes_nothing(text: str) -> None:
    words = normalize_words(text)
    assert normalize_words(" ".join(words)) == words


@given(st.text())
def test_case_and_white_space_do_not_matter(text: str) -> None:
    assert normalize_words(f"  {text}\n") == normalize_words(text)


@given(st.text())
def test_squashed_text_has_single_inner_spaces(text: str) -> None:
    squashed = squash_whitespace(text)
    assert squashed == squashed.strip()
    assert "  " not in squashed
    assert "\n" not in squashed
    assert squashed.split() == text.split()
