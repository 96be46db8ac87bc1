"""Cut an answer into claims, and find the facts in a text that must not be invented: numbers, times, codes, names."""

import re
from functools import lru_cache

from vivace.index.function_words import FUNCTION_WORDS
from vivace.text import normalize_words

# fmt: off
_ABBREVIATIONS = frozenset((
    "e.g.", "i.e.", "etc.", "mr.", "mrs.", "ms.", "dr.", "st.", "no.", "vs.", "approx.", "p.m.", "a.m.", "inc.", "ltd.",
    "co.", "jr.", "sr.", "nr.", "bzw.", "z.b.", "u.a.",
))
# fmt: on
_END = re.compile(r"(?<=[.!?。！？])[\"'”’)\]]*\s+|\n+|(?<=[。！？])")
_BULLET = re.compile(r"^[^\S\n]*(?:[-*•–]|\d{1,2}[.)])[^\S\n]+", re.MULTILINE)
_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
_UNITS += "seventeen eighteen nineteen twenty"
NUMBER_WORDS = {word: str(value) for value, word in enumerate(_UNITS.split())}
NUMBER_WORDS |= {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "hundred": "100", "dozen": "12"}
# "one" is mostly no number: "this one", "one of them".
del NUMBER_WORDS["one"], NUMBER_WORDS["zero"]
_NUMBER = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?::\d{2})?(?:\.\d+)?")
_CODE = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9][\w-]{3,}\b|\S+@\S+\.\w+|https?://\S+|\bwww\.\S+")
_NAME = re.compile(r"\b[A-Z][\w’'&-]*(?:\s+(?:(?:of|and|the|&)\s+)?[A-Z][\w’'&-]*)*")
_TIME = re.compile(r"\b(\d{1,2})(?::(\d{2}))?\s*([ap])\.?m\.?(?!\w)", re.IGNORECASE)


def claims(answer: str) -> list[str]:
    """Return the sentences of an answer, bullets and lines by themselves."""
    pieces: list[str] = []
    for piece in _END.split(_BULLET.sub("\n", answer)):
        text = (piece or "").strip()
        if not text:
            continue
        if pieces and pieces[-1].rsplit(maxsplit=1)[-1].casefold() in _ABBREVIATIONS:
            pieces[-1] += " " + text
        else:
            pieces.append(text)
    return pieces


def is_claim(sentence: str) -> bool:
    """Tell whether a sentence says something that could be wrong: no question, and not only small words."""
    return not sentence.rstrip("\"'”’) ").endswith(("?", "？")) and bool(content_words(sentence))


@lru_cache(1 << 14)
def content_words(text: str) -> tuple[str, ...]:
    """Return the words that carry meaning, cut to a common beginning ("rooms", "room" → "room")."""
    return tuple(stem(word) for word in normalize_words(text) if word not in FUNCTION_WORDS)


@lru_cache(1 << 16)
def stem(word: str) -> str:
    """Return a word without a common English ending; numbers as digits."""
    if word in NUMBER_WORDS:
        return NUMBER_WORDS[word]
    for ending, kept in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""), ("ly", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return (word[: -len(ending)] + kept).rstrip("e")
    return word.rstrip("e") if len(word) > 3 else word


@lru_cache(1 << 14)
def numbers(text: str) -> frozenset[str]:
    """Return the numbers, prices and times of a text in one way of writing each: 1,200.50 → 1200.5, 7 pm → 19:00."""
    found = set()

    def clock(match: re.Match[str]) -> str:
        hour, minute = int(match[1]), match[2] or "00"
        if 1 <= hour <= 12:
            hour = hour % 12 + (12 if match[3].casefold() == "p" else 0)
        found.add(f"{hour:02}:{minute}")
        return " "

    rest = _TIME.sub(clock, text)
    for match in _NUMBER.finditer(rest):
        plain = match[0].replace(",", "")
        if ":" in plain:
            hour, _, minute = plain.partition(":")
            found.add(f"{int(hour):02}:{minute}")
        else:
            found.add(f"{float(plain):.12g}" if len(plain) < 16 else plain)
    found |= {NUMBER_WORDS[word] for word in normalize_words(rest) if word in NUMBER_WORDS}
    return frozenset(found)


def codes(text: str) -> frozenset[str]:
    """Return order numbers, addresses of mail and web, and the like."""
    return frozenset(match[0].strip(".,;:!?()").casefold() for match in _CODE.finditer(text))


def names(text: str) -> frozenset[str]:
    """Return the words of names inside a sentence; its first word says nothing, it is written large anyway."""
    found: set[str] = set()
    for sentence in claims(text):
        for match in _NAME.finditer(sentence):
            words = match[0].split()
            if match.start() == 0 or not sentence[: match.start()].strip("\"'“‘(* "):
                words = words[1:]
            for word in words:
                plain = normalize_words(word)
                if plain and plain[0] not in FUNCTION_WORDS and len(plain[0]) > 1:
                    found.add(stem(plain[0].removesuffix("s") if word.endswith(("'s", "’s")) else plain[0]))
    return frozenset(found)
