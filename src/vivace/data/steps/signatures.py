"""Take out what mail programs and help desks add: signatures, quoted replies, disclaimers, boilerplate."""

import re
from collections import Counter

import msgspec

from vivace.config.data import DataSettings
from vivace.data.rows import Row
from vivace.data.steps import CleanRow, RowStep
from vivace.data.trail import StepTrail
from vivace.domain import Message

# Without a line break, only these can stand in a text.
_HINTS = ("Sent from", "##-", "Get Outlook", "Gesendet", "gesendet", "Envoy", "Enviado")

_DEVICE = re.compile(
    r"(?:^|(?<=[.!?,)\n])[ \t]*)(?:Sent from (?:my (?:iPhone|iPad|iOS|Android|Samsung|Galaxy|BlackBerry"
    r"|Windows|Huawei|Xiaomi|Pixel|mobile|phone|cell|T-Mobile|Verizon)[^\n.]{0,60}"
    r"|(?:Mail for Windows|Yahoo Mail|Outlook|Proton ?Mail)[^\n.]{0,60})"
    r"|Get Outlook for (?:iOS|Android)(?: ?<[^>\n]*>)?"
    r"|(?:Von meinem|Envoyé de mon|Enviado desde mi) (?:iPhone|iPad|Android|Samsung)[^\n.]{0,40})\.?[ \t]*$",
    re.MULTILINE,
)
_BOILERPLATE = re.compile(
    r"^[ \t]*(?:##-[^\n]*-##|To add (?:additional )?comments,? (?:please )?reply to this e-?mail\.?"
    r"|This e-?mail is a service from [^\n]*|Delivered by Zendesk\.?"
    r"|You (?:are receiving|received) this e-?mail because [^\n]*|Please consider the environment before printing[^\n]*"
    r"|\[?(?:CAUTION|EXTERNAL)(?: E-?MAIL)?\]?: ?This e-?mail (?:originated|came) from outside[^\n]*"
    r"|Virus-free\.[^\n]*)[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_DISCLAIMER = re.compile(
    r"intended recipient|intended (?:only|solely|exclusively) for the (?:use|person|individual|addressee|recipient)"
    r"|(?:this|the) (?:e-?mail|message|communication|transmission)\b[^\n]{0,120}\b(?:confidential|privileged)\b"
    r"[^\n]*\b(?:delete|disclos|recipient|error|unauthori[sz]ed|prohibited)",
    re.IGNORECASE,
)
_ATTRIBUTION = re.compile(
    r"^[ \t]*(?:On\b[^\n]{6,160}(?:\n[^\n]{1,80})?\bwrote:|Am\b[^\n]{6,160}\bschrieb\b[^\n]{0,80}:"
    r"|Le\b[^\n]{6,160}\ba écrit ?:|El\b[^\n]{6,160}\bescribió:)[ \t]*$",
    re.MULTILINE,
)
_ORIGINAL = re.compile(
    r"^[ \t]*(?:-{2,} ?(?:Original Message|Ursprüngliche Nachricht|Message d'origine|Mensaje original) ?-{2,}[ \t]*$"
    r"|(?:_{5,}\s*\n)?[*]?From:[*]? [^\n]+\n(?:[^\n]{1,120}\n){0,2}?[*]?(?:Sent|Date):[*]? [^\n]+\n"
    r"(?:[^\n]{1,120}\n){0,2}?[*]?(?:To|Subject):)",
    re.MULTILINE | re.IGNORECASE,
)
_QUOTED_LINE = re.compile(r"^[ \t]*>(?!>> )")
_DELIMITER = re.compile(r"^--[ \t]*$\n", re.MULTILINE)  # RFC 3676, section 4.3
_CLOSING = re.compile(
    r"^[ \t]*(?:(?:(?:kind|best|warm|many|with (?:kind|best)) )?(?:regards|wishes|greetings)|(?:yours )?(?:sincerely"
    r"|faithfully|truly|respectfully)(?: yours)?|cheers|thanks(?: and regards| again| so much)?|thank you|many thanks"
    r"|best|mit freundlichen grüßen|cordialement|saludos)[ \t]*[,.!]?[ \t]*\n",
    re.MULTILINE | re.IGNORECASE,
)
_NAME_LINE = re.compile(r"[ \t]*[-–—~]?[ \t]*(?:(?:[^\W\d_a-z][\w'’.-]*|of|the|and|&|de|van|von|der|la)[ ,]*){1,5}$")
_CONTACT_LINE = re.compile(
    r"@|www\.|https?://|\[(?:EMAIL|PHONE)_\d+\]"
    r"|^[ \t]*(?:tel|phone|mobile|cell|fax|m|p|t|e)[.:] ?\S|^[+(]?\d[\d ()./-]{6,}$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[?!]|[a-z]\.[ \t]|\b(?:I|you|we|please|is|are|was|have|not|can|will)\b")
MAX_SIGNATURE_LINES = 8
MAX_SIGNATURE_CHARS = 500
MAX_ROUNDS = 6


def _open(_settings: DataSettings) -> CleanRow:
    return clean


def clean(row: Row, trail: StepTrail) -> Row:
    """Strip every turn of customer and agent."""
    counts: Counter[str] = Counter()
    messages, before, after = _stripped(row.example.messages, counts)
    rejected, rejected_before, rejected_after = _stripped(row.example.rejected, counts)
    if not counts:
        return row
    trail.change(row, dict(counts), before or rejected_before, after or rejected_after)
    example = msgspec.structs.replace(row.example, messages=messages, rejected=rejected)
    return Row(example, row.group, row.held_out)


def strip(text: str, *, quotes_by_hand: bool = True) -> tuple[str, dict[str, int]]:
    """Return the text without what programs added, and how often each kind was found.

    A turn that is nothing but a quoted reply stays, and so does a text with fenced code. Without `quotes_by_hand`,
    lines marked ">" are taken for a reply only after "On … wrote:"; an agent's block quotation is part of the answer.
    """
    counts: Counter[str] = Counter()
    if not _may_need(text):
        return text, {}
    for _ in range(MAX_ROUNDS):
        before = text
        for kind, cut in _CUTS:
            shorter = cut(text)
            if shorter != text:
                counts[kind] += 1
                text = shorter
        if quotes_by_hand:
            shorter = _without_trailing_quotation(text)
            counts["quoted replies removed"] += shorter != text
            text = shorter
        if text == before:
            break
    return text, {kind: count for kind, count in counts.items() if count}


def _stripped(messages: tuple[Message, ...], counts: Counter[str]) -> tuple[tuple[Message, ...], str, str]:
    """Return the messages stripped, and the text before and after the first change."""
    if not any(_may_need(message.content) for message in messages):
        return messages, "", ""
    changed: list[Message] = []
    before = after = ""
    for message in messages:
        if message.role in ("user", "assistant"):
            text, found = strip(message.content, quotes_by_hand=message.role == "user")
            if found:
                before, after = (before, after) if before else (message.content, text)
                counts.update(found)
                message = msgspec.structs.replace(message, content=text)
        changed.append(message)
    return tuple(changed), before, after


def _may_need(text: str) -> bool:
    if "\n" not in text and not any(hint in text for hint in _HINTS):
        return False
    return "```" not in text


def _without_device_lines(text: str) -> str:
    return _joined(_DEVICE.sub("", text)) if _DEVICE.search(text) else text


def _without_boilerplate(text: str) -> str:
    return _joined(_BOILERPLATE.sub("", text)) if _BOILERPLATE.search(text) else text


def _without_disclaimers(text: str) -> str:
    if not _DISCLAIMER.search(text):
        return text
    first, *others = re.split(r"(\n{2,}|\n(?=[^\n]{120}))", text)
    # The first paragraph is what somebody wrote to say something.
    kept = [part for part in others if not _DISCLAIMER.search(part)]
    return _joined(first + "".join(kept)) if len(kept) < len(others) else text


def _without_reply(text: str) -> str:
    """Cut the mail that is answered: its marked lines, or all that follows where lines are not marked."""
    match = _ATTRIBUTION.search(text)
    if match:
        after = text[match.end() :].lstrip("\n").split("\n")
        marked = sum(1 for line in after if _QUOTED_LINE.match(line))
        rest = "\n".join(line for line in after if not _QUOTED_LINE.match(line)) if marked else ""
        return _unless_empty(text[: match.start()] + rest, text)
    match = _ORIGINAL.search(text)
    return _unless_empty(text[: match.start()], text) if match else text


def _without_trailing_quotation(text: str) -> str:
    lines = text.split("\n")
    while lines and (_QUOTED_LINE.match(lines[-1]) or not lines[-1].strip()):
        lines.pop()
    return _unless_empty("\n".join(lines), text)


def _without_signature(text: str) -> str:
    """Cut the name block at the end: after "--", or after a closing such as "Kind regards,"."""
    for match in _DELIMITER.finditer(text):
        block = text[match.end() :]
        if len(block) <= MAX_SIGNATURE_CHARS and block.count("\n") < MAX_SIGNATURE_LINES and "?" not in block:
            return _joined(text[: match.start()])
    for match in _CLOSING.finditer(text):
        lines = [line for line in text[match.end() :].split("\n") if line.strip()]
        if 1 <= len(lines) <= MAX_SIGNATURE_LINES and _NAME_LINE.match(lines[0]) and all(map(_signs, lines)):
            return _joined(text[: match.start()])
    return text


def _signs(line: str) -> bool:
    """Tell whether a line can be part of a name block."""
    return bool(_CONTACT_LINE.search(line)) or (len(line) <= 60 and not _SENTENCE.search(line))


def _unless_empty(shorter: str, text: str) -> str:
    joined = _joined(shorter)
    return joined if joined and len(joined) < len(text) else text


def _joined(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text).strip()


_CUTS = (
    ("device lines removed", _without_device_lines),
    ("help-desk lines removed", _without_boilerplate),
    ("quoted replies removed", _without_reply),
    ("disclaimers removed", _without_disclaimers),
    ("signatures removed", _without_signature),
)

STEP = RowStep(_open)
