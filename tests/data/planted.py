"""Sentences with one made-up e-mail address, telephone, card or account number, as people write them."""

import random
from collections.abc import Callable

Plant = Callable[[random.Random], tuple[str, str]]

FIRST = ["jane", "joe", "priya", "lukas", "mei", "oluwaseun", "maria", "ahmed", "søren", "zoë"]
LAST = ["doe", "smith", "sharma", "müller", "o'brien", "garcia-lopez", "nguyen", "kowalski"]
HOSTS = ["example.com", "mail.example.co.uk", "shop-example.de", "sub.example.org", "example.io", "post.example.museum"]
OPENINGS = ["", "", "Hi, ", "Hello! ", "Thanks. ", "sorry for the late answer, ", "Sure:\n", "2 questions: ", "ok so "]
ENDINGS = ["", ".", "!", ", thanks", " please", " and that is all", "\nBye", " (same as always)", "?", " 🙏"]

EMAIL_SENTENCES = [
    "my email is {}", "write to {}", "you can reach me at {}", "{}", "Email: {}", "e-mail:{}", "it was <{}>",
    "my mail ({})",
    "send the invoice to {} instead of the old address", "account {} is locked", "login={}",
    "I am registered with '{}'", "cc {}", "mailto:{}",
]  # fmt: skip
PHONE_SENTENCES = [
    "my phone number is {}", "call me at {}", "Phone: {}", "mobile {}", "please ring {} after 5 pm", "my number is {}",
    "tel. {}", "you can call my wife on {}", "text me: {}", "WhatsApp {}", "the best number to reach me is {}",
    "contact number - {}", "My cell is {}", "give me a call back on {}",
]  # fmt: skip
CARD_SENTENCES = [
    "my card is {}", "I paid with {}", "card number {}", "{}", "charge {} instead", "the card {} was declined",
    "Visa {}", "cc: {}", "you took money twice from {}", "use {} expiring 12/27", "card no. {}, cvv on request",
]  # fmt: skip
IBAN_SENTENCES = [
    "my IBAN is {}", "IBAN: {}", "please refund to {}", "{}", "the account {} is mine", "transfer it to {} today",
    "Bank: Example Bank, {}", "iban {}", "from {} to yours",
]  # fmt: skip

# National numbers by country code: groups of digits as they are written there; "x" is any digit.
PHONES = {
    "1": ["({2xx}) {2xx}-xxxx", "{2xx}-{2xx}-xxxx", "{2xx}.{2xx}.xxxx", "{2xx} {2xx} xxxx", "{2xx}{2xx}xxxx"],
    "44": ["20 7xxx xxxx", "7xxx xxxxxx", "161 xxx xxxx", "7xxxxxxxxx"],
    "49": ["30 xxxxxx", "151 xxxxxxxx", "89/xxxxxxx", "(0)30 xxxxxxx"],
    "33": ["6 xx xx xx xx", "1 xx xx xx xx", "6xxxxxxxx"],
    "31": ["6 xxxxxxxx", "20 xxx xxxx", "6-xxxxxxxx"],
    "91": ["9xxxx xxxxx", "9xxxxxxxxx", "98xx-xxx-xxx"],
    "34": ["6xx xxx xxx", "91 xxx xx xx"],
    "61": ["4xx xxx xxx", "2 xxxx xxxx"],
    "86": ["138 xxxx xxxx", "139xxxxxxxx"],
    "55": ["11 9xxxx-xxxx", "(21) xxxx-xxxx"],
}
AT_HOME = {
    "44": "0", "49": "0", "33": "0", "31": "0", "61": "0",
}  # fmt: skip
CARD_PREFIXES = [("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16), ("3528", 16)]
IBAN_FORMATS = {"DE": "d" * 18, "GB": "aaaa" + "d" * 14, "NL": "aaaa" + "d" * 10, "FR": "d" * 10 + "c" * 11 + "dd",
                "ES": "d" * 20, "IT": "a" + "d" * 22, "BE": "d" * 12, "PL": "d" * 24, "CH": "d" * 17, "AT": "d" * 16,
                "NO": "d" * 11, "SE": "d" * 20, "PT": "d" * 21,
                "IE": "aaaa" + "d" * 14, "MT": "aaaa" + "d" * 23}  # fmt: skip


def plant_email(rng: random.Random) -> tuple[str, str]:
    """Return a sentence and the e-mail address in it."""
    first, last = rng.choice(FIRST), rng.choice(LAST)
    glue = rng.choice([".", "_", "", "-", "+"])
    local = rng.choice([f"{first}{glue}{last}", f"{first[0]}{last}", f"{first}{rng.randrange(1950, 2020)}", first])
    value = f"{local}@{rng.choice(HOSTS)}"
    return _sentence(rng, EMAIL_SENTENCES, rng.choice([value, value, value, value.upper(), value.capitalize()]))


def plant_phone(rng: random.Random) -> tuple[str, str]:
    """Return a sentence and the telephone number in it, in a form of one of ten countries, abroad or at home."""
    code = rng.choice(sorted(PHONES))
    national = _digits(rng, rng.choice(PHONES[code]))
    way = rng.choice(["+", "+", "00", "home"])
    if way == "home" and "(0)" not in national:
        value = AT_HOME.get(code, "") + national
    elif way == "00" and "(" not in national:
        value = f"00{code} {national}"
    else:
        value = f"+{code}{rng.choice([' ', ' ', '-', ''])}{national}"
    if rng.random() < 0.1:
        value += rng.choice([" ext. ", " x"]) + str(rng.randrange(10, 9999))
    return _sentence(rng, PHONE_SENTENCES, value)


def plant_card(rng: random.Random) -> tuple[str, str]:
    """Return a sentence and the payment card number in it: plain, spaced or hyphenated."""
    prefix, length = rng.choice(CARD_PREFIXES)
    digits = prefix + "".join(rng.choices("0123456789", k=length - len(prefix) - 1))
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(reversed(digits)))
    digits += str(-total % 10)
    ends = (4, 8, 12, 16) if length == 16 else (4, 10, 15)
    groups = [digits[start:end] for start, end in zip((0, *ends), ends, strict=False)]
    return _sentence(rng, CARD_SENTENCES, rng.choice(["", " ", "-"]).join(groups))


def plant_iban(rng: random.Random) -> tuple[str, str]:
    """Return a sentence and the IBAN in it: plain or in groups of four, in capitals or not."""
    country = rng.choice(sorted(IBAN_FORMATS))
    kinds = {"d": "0123456789", "a": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "c": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    account = "".join(rng.choice(kinds[kind]) for kind in IBAN_FORMATS[country])
    check = 98 - int("".join(str(int(char, 36)) for char in account + country + "00")) % 97
    value = f"{country}{check:02d}{account}"
    groups = [value[place : place + 4] for place in range(0, len(value), 4)]
    written = rng.choice(["", " ", " ", "-"]).join(groups)
    return _sentence(rng, IBAN_SENTENCES, written.lower() if rng.random() < 0.2 else written)


PLANTS: dict[str, Plant] = {"email": plant_email, "phone": plant_phone, "card": plant_card, "iban": plant_iban}


def _sentence(rng: random.Random, sentences: list[str], value: str) -> tuple[str, str]:
    return rng.choice(OPENINGS) + rng.choice(sentences).format(value) + rng.choice(ENDINGS), value


def _digits(rng: random.Random, form: str) -> str:
    form = form.replace("{2xx}", "Nxx")
    written = ""
    for char in form:
        written += rng.choice("23456789") if char == "N" else rng.choice("0123456789") if char == "x" else char
    return written
