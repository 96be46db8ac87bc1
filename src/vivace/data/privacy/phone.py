"""Telephone numbers: told by how they are written, and by the words before them."""

import re
from collections.abc import Iterator, Set

from vivace.data.privacy.spans import Span, digits_of

_BEFORE = r"(?<![\w.,+$€£¥₹#/-])(?<![$€£¥₹#] )"
_AFTER = r"(?![\w-]*\d)(?!\w)(?![.,/:]\d)(?!\s?%)"
_EXTENSION = r"(?:\s?(?:ext\.?|extension|x)\s?\d{1,6})?"

# Written in a way that only telephone numbers are.
_SURE = re.compile(
    _BEFORE
    + r"(?:\+\d{1,3}[ .-]?(?:\(0?\d{1,5}\)[ .-]?)?\d(?:[ ./-]?\d){5,13}"  # +44 20 7946 0958
    + r"|(?:\+?1[ .-]?)?\([2-9]\d{2}\) ?\d{3}[ .-]?\d{4}"  # (977) 625-2661
    + r"|\(0\d{2,4}\) ?\d{3,4}[ .-]?\d{3,4})"  # (020) 7946 0958
    + _EXTENSION
    + _AFTER,
    re.ASCII | re.IGNORECASE,
)
# Written like telephone numbers; order numbers can be, too, so the words before them decide against it.
_LIKELY = re.compile(
    _BEFORE
    + r"(?<!\d[ -])"
    + r"(?:00[1-9]\d{0,2}[ -]\d{1,4}(?:[ ./-]?\d{2,4}){1,4}"  # 0044 20 7946 0958
    + r"|(?:1[ .-])?[2-9]\d{2}([ .-])[2-9]\d{2}\1\d{4}"  # 977-625-2661
    + r"|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5}|0\d{1,4}[ /-]\d{6,8}"  # 020 7946 0958, 06-12345678
    + r"|0\d(?:[ .-]\d{2}){4}"  # 06 12 34 56 78
    + r"|\(\d{2}\) ?\d{4,5}[ -]\d{4}"  # (11) 98765-4321
    + r"|[6-9]\d{4} \d{5})"  # 98765 43210
    + _EXTENSION
    + _AFTER,
    re.ASCII | re.IGNORECASE,
)
# Other digits, in groups or not, that are no date: telephone numbers only if the words before them say so.
_PLAIN = re.compile(
    _BEFORE
    + r"(?!(?:\d{4}[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.]\d{4})(?!\d))\(?\d(?:[ ./()-]?\d){6,14}"
    + _EXTENSION
    + _AFTER,
    re.ASCII,
)

_PHONE_WORDS = re.compile(
    r"\b(?:tele)?phones?\b|\bphn\b|\bph\b|\bmob(?:ile)?\b|\bcell(?:phone|ular)?\b|\btel\b|\bcall(?:s|ed|ing|back)?\b"
    r"|\bwhat[s] ?app\b|\btext(?:ed)? (?:me|us|you)\b|\bsms\b|\bdial\b|\bcontact (?:no|num|number|me|us)\b"
    r"|\breach(?:ed)?\b|\bring\b|\bhotline\b|\bhelpline\b|\bfax\b|\blandline\b"
    r"|\b(?:my|her|his|your|alternate|alternative) (?:number|numb[e]?r|num|no)\b",
    re.IGNORECASE,
)
_OTHER_WORDS = re.compile(
    r"\borders?\b|\btracking\b|\btrack\b|\baccount\b|\bacct?\b|\bticket\b|\binvoice\b|\breference\b|\bref\b|\bcase\b"
    r"|\bids?\b|\bserial\b|\bimei\b|\bsku\b|\bitem\b|\bmodel\b|\bawb\b|\bpnr\b|\bpin\b|\bzip\b|\botp\b|\bcode\b"
    r"|\bpolicy\b|\bclaim\b|\bconfirmation\b|\bbooking\b|\breservation\b|\btransaction\b|\bshipment\b|\bparcel\b"
    r"|\bpackage\b|\bpart\b|\bbarcode\b|\bisbn\b|\bcard\b|\biban\b|\bmeter\b|\bcustomer (?:no|number)\b",
    re.IGNORECASE,
)
# What an agent asks for; "the phone number associated with this order" asks for no order number.
_PHONE_ASKED = re.compile(
    r"\b(?:phone|mobile|contact|cell|telephone|what[s] ?app|callback|alternat(?:e|ive))\s+(?:no\b|num|#)|\bphone\b"
    r"|\bnumber\b.{0,40}\breach",
    re.IGNORECASE,
)
_DEVICE_ASKED = re.compile(r"\b(?:imei|serial)\b", re.IGNORECASE)
_ANY_NUMBER = re.compile(r"(?<![\w.+-])\+?\(?\d(?:[ .()-]{0,2}\d){7,14}(?!\w)", re.ASCII)
NEAR_CHARS = 60
BEFORE_CHARS = 200
MIN_DIGITS, MAX_DIGITS, MAX_PLAIN_DIGITS = 7, 15, 13  # ITU-T E.164 allows 15; an IMEI has 15, too
SAME_DIGITS = 9  # "+44 20 7946 0958" and "020 7946 0958" are one number


def find_phones(text: str, before: str = "") -> Iterator[Span]:
    """Yield telephone numbers; `before` is the turn before, in which the agent may have asked for one."""
    for pattern, needs_words in ((_SURE, None), (_LIKELY, False), (_PLAIN, True)):
        for match in pattern.finditer(text):
            digits = digits_of(re.split(r"[ex]", match[0], maxsplit=1, flags=re.IGNORECASE)[0])
            if not MIN_DIGITS <= len(digits) <= (MAX_PLAIN_DIGITS if needs_words else MAX_DIGITS):
                continue
            verdict = True if needs_words is None else _told(text[: match.start()], before)
            if verdict or (verdict is None and not needs_words):
                yield Span(match.start(), match.end(), digits[-SAME_DIGITS:])


def find_known(text: str, known: Set[str]) -> Iterator[Span]:
    """Yield every other mention of telephone numbers found elsewhere in the conversation."""
    if not known:
        return
    for match in _ANY_NUMBER.finditer(text):
        value = digits_of(match[0])[-SAME_DIGITS:]
        if len(value) == SAME_DIGITS and value in known:
            yield Span(match.start(), match.end(), value)


def _told(text: str, before: str) -> bool | None:
    """Tell whether the words before a number say that it is a telephone's, None when they say nothing."""
    near = text[-NEAR_CHARS:]
    phone = max((match.end() for match in _PHONE_WORDS.finditer(near)), default=-1)
    other = max((match.end() for match in _OTHER_WORDS.finditer(near)), default=-1)
    if phone != other:
        return phone > other
    if len(text) <= NEAR_CHARS:
        asked = before[-BEFORE_CHARS:]
        if _PHONE_ASKED.search(asked) and not _DEVICE_ASKED.search(asked):
            return True
        if _OTHER_WORDS.search(asked):
            return False
    return None
