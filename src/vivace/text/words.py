"""What counts as the same word, and as the same white space."""

import re
import unicodedata
from functools import lru_cache

APOSTROPHES = re.compile(r"['\u2018\u2019\u02bc]")
_INSIDE_NUMBER = re.compile(r"([.,:](?<=\d.)(?=\d))")
# Characters of scripts written without spaces are words by themselves: kana, Han.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
MAX_CACHED = 1 << 16  # words of a corpus come again and again
MAX_CACHED_CHARS = 40


def normalize_words(text: str) -> list[str]:
    """Return the words of a text, made comparable.

    NFKC and case folding; apostrophes vanish ("don't" is one word); other punctuation, symbols and control
    characters separate words, but a point, comma or colon between digits stays ("3.50" is one word); each Han or
    kana character is a word.
    """
    plain = text.replace("'", "") if text.isascii() else APOSTROPHES.sub("", text)
    if plain.isascii():
        return separated(plain.lower()).split()
    pieces = text.split()  # neither normalizing nor a number reaches over white space
    if max(map(len, pieces), default=0) > MAX_CACHED_CHARS:
        return _normalize(text).split()
    return " ".join(map(_normalize_piece, pieces)).split()


def separated(text: str) -> str:
    """Return the text with spaces around Han and kana characters, and for what separates words.

    That is punctuation, symbols and control characters, but not a point, comma or colon between digits.
    """
    table = _ASCII if text.isascii() else _ALL
    if not _INSIDE_NUMBER.search(text):
        return text.translate(table)
    parts = _INSIDE_NUMBER.split(text)
    return "".join(part if place % 2 else part.translate(table) for place, part in enumerate(parts))


def squash_whitespace(text: str) -> str:
    """Return the text with every run of white space as one space, and none at the ends."""
    return " ".join(text.split())


def _normalize(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return separated(APOSTROPHES.sub("", folded))


_normalize_piece = lru_cache(MAX_CACHED)(_normalize)


class _Separators(dict[int, str]):
    """What `str.translate` puts in the place of a character, filled as characters are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.category(char)[0] in "PSZC":  # punctuation, symbol, separator, control
            self[code] = " "
        else:
            self[code] = f" {char} " if _UNSPACED.match(char) else char
        return self[code]


_ALL = _Separators()
_ASCII = {code: _ALL[code] for code in range(128)}  # `str.translate` is fastest with a plain dict
