"""Payment cards by Luhn checksum (ISO/IEC 7812-1) and bank accounts by IBAN checksum (ISO 13616)."""

import re
from collections.abc import Iterator

from vivace.data.privacy.spans import Span, digits_of

# Digits without separators or grouped as cards are printed: 4-4-4-4(-3), 4-6-5, 4-6-4.
_CARD = re.compile(
    r"(?<![\w.+-])(?:\d{13,16}|\d{19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5})"
    r"(?![\w-]*\d)(?!\w)",
    re.ASCII,
)
_ORDER_BEFORE = re.compile(
    r"(?:order|tracking|invoice|ticket|ref(?:erence)?|case|imei|serial|booking|transaction)\W{0,3}"
    r"(?:id|no|num|number)?\W{0,3}(?:is|was)?\W{0,3}$",
    re.IGNORECASE,
)
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{2})(\d{2})(?=[ -]?[A-Za-z0-9])", re.ASCII)
# Countries by the length of their IBANs, from the SWIFT IBAN registry.
_COUNTRIES_BY_LENGTH = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",  # codespell:ignore fo
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
}
IBAN_LENGTHS = {country: length for length, names in _COUNTRIES_BY_LENGTH.items() for country in names.split()}


def find_cards(text: str) -> Iterator[Span]:
    """Yield payment card numbers: printed like one, of an issuer's range and length, with a right check digit.

    One order number in ten has a right check digit, too: what is called an order number is none.
    """
    for match in _CARD.finditer(text):
        digits = digits_of(match[0])
        if not (_issued(digits) and luhn_valid(digits)):
            continue
        if not _ORDER_BEFORE.search(text[max(0, match.start() - 40) : match.start()]):
            yield Span(match.start(), match.end(), digits)


def find_ibans(text: str) -> Iterator[Span]:
    """Yield IBANs of their country's length whose check digits are right, with or without spaces."""
    for match in _IBAN_START.finditer(text):
        length = IBAN_LENGTHS.get(match[1].upper())
        end = _take(text, match.start(), length) if length else None
        if end is not None:
            value = re.sub(r"[ -]", "", text[match.start() : end]).upper()
            if iban_valid(value):
                yield Span(match.start(), end, value)


def luhn_valid(digits: str) -> bool:
    """Tell whether the last digit is the Luhn check digit of the others."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_valid(iban: str) -> bool:
    """Tell whether an IBAN without spaces has its country's length and a remainder of 1 modulo 97."""
    if IBAN_LENGTHS.get(iban[:2]) != len(iban) or not iban.isalnum() or not iban.isascii():
        return False
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1


def _take(text: str, start: int, count: int) -> int | None:
    """Return where `count` letters and digits end that at most single spaces or hyphens part, None if they do not."""
    place = start
    taken = 0
    while taken < count and place < len(text):
        if text[place].isalnum() and text[place].isascii():
            taken += 1
        elif text[place] not in " -" or text[place - 1] in " -":
            return None
        place += 1
    whole = taken == count and not (place < len(text) and text[place].isalnum())
    return place if whole else None


def _issued(digits: str) -> bool:
    """Tell whether issuer prefix and length fit a network (Visa, Mastercard, Amex, Diners, JCB …)."""
    two, four, length = int(digits[:2]), int(digits[:4]), len(digits)
    if two in (34, 37):
        return length == 15
    if digits[0] == "4":
        return length in (13, 16, 19)
    if two in (36, 38, 39) or 3000 <= four <= 3059:
        return length in (14, 16)
    mastercard = 51 <= two <= 55 or 2221 <= four <= 2720
    others = two in (35, 50, 56, 57, 58, 60, 62, 63, 64, 65, 67, 81)
    return length == 16 if mastercard else others and length in (16, 19)
