"""Text made comparable: what counts as the same word, and as the same white space."""

import re
import unicodedata
from functools import cache

# Characters of scripts written without spaces are words by themselves: kana, Han.
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f])")
_APOSTROPHES = re.compile(r"['\u2018\u2019\u02bc]")
_INSIDE_NUMBER = re.compile(r"(?<=\d)[.,:](?=\d)")


def normalize_words(text: str) -> list[str]:
    """Return the words of a text, made comparable.

    NFKC and case folding; apostrophes vanish ("don't" is one word); other punctuation, symbols and control
    characters separate words, but a point, comma or colon between digits stays ("3.50" is one word); each Han or
    kana character is a word.
    """
    folded = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()))
    inside = {match.start() for match in _INSIDE_NUMBER.finditer(folded)}
    kept = (char if place in inside or not _separates(char) else " " for place, char in enumerate(folded))
    return _UNSPACED.sub(r" \1 ", "".join(kept)).split()


def squash_whitespace(text: str) -> str:
    """Return the text with every run of white space as one space, and none at the ends."""
    return " ".join(text.split())


@cache
def _separates(char: str) -> bool:
    """Tell whether a character is punctuation, symbol, separator or control (Unicode categories P, S, Z, C)."""
    return unicodedata.category(char)[0] in "PSZC"
