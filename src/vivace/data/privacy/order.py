"""Order numbers: told by the words before them, by the question before, or by a form that only they have."""

import re
from collections.abc import Iterator, Set

from vivace.data.privacy.spans import Span, digits_of

_NOUNS = (
    r"(?:orders?|tracking|track|invoice|ticket|reference|ref|booking|reservation|confirmation|transaction|shipment|parcel"
    r"|awb|pnr|case|complaint|consignment|return)"
)
_NUMBER_WORD = r"(?:[ -]?(?:ids?|numbers?|num|nos?|nbr|code)\b\.?)"
# Letters, digits and hyphens, at least four digits: "502-2345678-9012345", "KV-10482", "#171234567".
_TOKEN = r"#?(?=[A-Z0-9-]*(?:\d[A-Z-]*){4})[A-Z0-9](?:[A-Z0-9-]{2,28}[A-Z0-9])(?![\w.,:/-]*\d)"
_TOLD = re.compile(
    rf"\b{_NOUNS}{_NUMBER_WORD}(?:\s*(?:is|was|are|its|it's|:|=|-|#|\(|,|\[)){{0,3}}\s*({_TOKEN})", re.IGNORECASE
)
# Without "number" it must look like one: "order 12000 rupees" has none.
_NAMED = re.compile(rf"\b{_NOUNS}\s*[:#(]{{0,2}}\s*((?=#|[A-Z]+-?\d|\d+-\d|\d{{7}}){_TOKEN})", re.IGNORECASE)
_SURE = re.compile(r"(?<![\w-])\d{3}-\d{7}-\d{7}(?![\w-])")
_ASKED = re.compile(rf"\b{_NOUNS}{_NUMBER_WORD}", re.IGNORECASE)
_BARE = re.compile(rf"(?<![\w.@+/-])({_TOKEN})", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?-\d\d?-\d{2,4}")
MIN_ASKED_DIGITS = 5
BEFORE_CHARS = 300


def find_order_numbers(text: str, before: str, known: Set[str]) -> Iterator[Span]:
    """Yield order, tracking and ticket numbers; `before` is the turn before, `known` those found in other turns."""
    for match in _SURE.finditer(text):
        yield _span(match, 0)
    for pattern in (_TOLD, _NAMED):
        for match in pattern.finditer(text):
            if not _DATE.fullmatch(match[1]):
                yield _span(match, 1)
    asked = _ASKED.search(before[-BEFORE_CHARS:]) is not None
    if not asked and not known:
        return
    for match in _BARE.finditer(text):
        span = _span(match, 1)
        answers = asked and len(digits_of(match[1])) >= MIN_ASKED_DIGITS and not _DATE.fullmatch(match[1])
        if answers or span.value in known:
            yield span


def _span(match: re.Match[str], group: int) -> Span:
    start = match.start(group) + match[group].startswith("#")
    return Span(start, match.end(group), match[group].lstrip("#").casefold())
