"""Name every secret-looking text in the training data: what a model could learn by heart and give away."""

import re
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from vivace.domain import Example, Message

Finder = Callable[[Example], Sequence[tuple[int, str, int, int]]]
"""Returns turn, kind, start and end of the personal data in an example's turns."""

_SECRET_WORD = (
    r"(?:api[ _-]?key|secret(?:[ _-]?key)?|access[ _-]?(?:key|token)|auth(?:entication)?[ _-]?token|bearer"
    r"|client[ _-]?secret|token|license[ _-]?key|activation[ _-]?(?:key|code)|recovery[ _-]?(?:key|code|phrase)"
    r"|private[ _-]?key)"
)
_TELLS = (
    r"(?:\s*(?:(?:has been (?:re)?set|was (?:re)?set|changed|now|is|are|was|to|set|of|for [\w ]{1,20}?)\b|[:=]))+\s*"
)
_QUOTE = r"[\"'`“‘(\[<]{0,2}"
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "private_key",
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]{16,4000}?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"),
    ),
    (
        "api_key",
        re.compile(
            r"(?<![\w-])(?:sk|pk|rk|ak)[-_](?:(?:live|test|proj|ant|prod)[-_])?[\w-]{12,}"
            r"|(?<!\w)(?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)|(?<!\w)gh[pousr]_\w{20,}|(?<!\w)github_pat_\w{20,}"
            r"|(?<!\w)glpat-[\w-]{16,}|(?<!\w)xox[abprs]-[\w-]{10,}|(?<!\w)AIza[\w-]{30,}|(?<!\w)hf_\w{20,}"
            r"|(?<!\w)SG\.[\w-]{16,}\.[\w-]{16,}|(?<!\w)ya29\.[\w-]{20,}"
        ),
    ),
    (
        "api_key",
        re.compile(
            rf"\b{_SECRET_WORD}{_TELLS}{_QUOTE}((?=[\w+/=.-]*\d)(?=[\w+/=.-]*[A-Za-z])[\w+/=-][\w+/=.-]{{7,}}[\w+/=])",
            re.I,
        ),
    ),
    (
        "password",
        re.compile(
            rf"\b(?i:(?:pass(?:word|code|phrase|wd)|pwd|passwort|contraseña)s?{_TELLS}){_QUOTE}"
            r"((?=\S*[\d!@#$%^&*_+=-]|\S*[a-z][A-Z])[^\s\"'`”’)\]>,;]{4,64}[^\s\"'`”’)\]>,;.!?:])"
        ),
    ),
    (
        "pin",
        re.compile(
            rf"\b(?:pin(?:[ -]?number)?|pin[ -]?code(?!\D{{1,12}}\d{{6}}\b)|otp|cvv|cvc|security code|verification code"
            rf"|one[- ]time (?:code|password)|access code|door code|gate code|passcode)(?:{_TELLS}| #?){_QUOTE}"
            r"(\d(?:[ -]?\d){2,7})(?![\w-]*\d)",
            re.IGNORECASE,
        ),
    ),
    (
        "national_id",
        re.compile(
            rf"\b(?:ssn|social security(?: number)?|passport(?: (?:no|number))?\.?|tax id){_TELLS}{_QUOTE}"
            r"([A-Z]{0,2}\d[\d -]{5,12}\d)(?!\w)",
            re.IGNORECASE,
        ),
    ),
    ("national_id", re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")),
    (
        "address",
        re.compile(
            r"(?<![\w-])\d{1,5}[A-Za-z]?,? (?:[A-Z][\w'’.-]+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr"
            r"|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|Terrace|Way|Close|Crescent|Gardens|Grove|Parkway|Pkwy|Highway|Row|Hill)\b\.?"
            r"(?:,? (?:Apt|Apartment|Flat|Unit|Suite|#)\.? ?\w{1,5}\b)?(?:, [A-Z][\w'’-]+(?: [A-Z][\w'’-]+)?)?"
            r"(?:,? [A-Z]{2}(?= \d{5}))?(?:,? (?:\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}))?(?!\w)"
            r"|(?<!\w)[A-ZÄÖÜ][a-zäöüß]+(?:straße|strasse|weg|platz|allee|gasse) \d{1,4}[a-z]?"
            r"(?:, \d{5} [A-ZÄÖÜ][a-zäöüß]+)?"
        ),
    ),
    (
        "token",
        re.compile(r"(?<![\w/.@-])(?=[\w-]{24,128}(?![\w-]))(?=(?:[\w-]*\d){3})(?=[\w-]*[A-Za-z])[\w-]+", re.ASCII),
    ),
)
_PLACEHOLDER = re.compile(r"\[[A-Z_]+_\d+\]")
_MASKED = re.compile(r"^[x*•.\-_#\s]+$|^<.*>$|^\{.*\}$", re.IGNORECASE)


class Secret(Struct, frozen=True):
    """A secret-looking text: `messages[turn].content[start:end]` of an example, whose source tells file and row."""

    kind: str
    value: str
    example: str
    source: str
    turn: int
    role: str
    start: int
    end: int
    occurrences: int = 1

    @property
    def veiled(self) -> str:
        """Its shape: the first two characters, the rest as dots."""
        return self.value[:2] + re.sub(r"[^\W_]", "•", self.value[2:])


def find_secrets(examples: Sequence[Example], personal: Finder | None = None) -> list[Secret]:
    """Return every secret-looking text of the examples once, at its first place, with how often it occurs.

    `personal` finds what rules for personal data know (cards, IBANs, telephone and order numbers, e-mail addresses …);
    where finds overlap, theirs wins unless ours is longer.
    """
    found: dict[tuple[str, str], Secret] = {}
    counts: dict[tuple[str, str], int] = {}
    for example in examples:
        known = list(personal(example)) if personal is not None else []
        for turn, message in enumerate(example.messages):
            spans = [(kind, start, end) for place, kind, start, end in known if place == turn]
            for kind, start, end in _distinct([*spans, *_own(message)]):
                value = message.content[start:end]
                key = (kind, value.casefold())
                counts[key] = counts.get(key, 0) + 1
                found.setdefault(key, Secret(kind, value, example.id, example.source, turn, message.role, start, end))
    return [_counted(secret, counts[key]) for key, secret in found.items()]


def by_line(secrets: Sequence[Secret]) -> Iterator[str]:
    """Yield one line a secret: what it is, its shape, and in which file and row it stands."""
    for each in secrets:
        times = f", {each.occurrences} times" if each.occurrences > 1 else ""
        yield f"{each.kind} {each.veiled} in {each.source or each.example}, turn {each.turn + 1} ({each.role}){times}"


def _own(message: Message) -> Iterator[tuple[str, int, int]]:
    filled = [match.span() for match in _PLACEHOLDER.finditer(message.content)]
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(message.content):
            start, end = match.span(match.lastindex or 0)
            if any(start < other_end and other_start < end for other_start, other_end in filled):
                continue
            if not _MASKED.search(message.content[start:end]):
                yield kind, start, end


def _distinct(spans: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Return spans that do not overlap: the longer one, of equal ones the first."""
    kept: list[tuple[str, int, int]] = []
    for kind, start, end in sorted(spans, key=lambda each: each[1] - each[2]):
        if not any(start < other_end and other_start < end for _kind, other_start, other_end in kept):
            kept.append((kind, start, end))
    return sorted(kept, key=lambda each: each[1])


def _counted(secret: Secret, count: int) -> Secret:
    return Secret(
        secret.kind,
        secret.value,
        secret.example,
        secret.source,
        secret.turn,
        secret.role,
        secret.start,
        secret.end,
        count,
    )
