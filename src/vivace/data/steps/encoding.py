"""Repair broken characters; take HTML tags and entities out of what people wrote."""

import html
import re
from collections import Counter
from functools import cache
from typing import Any

from vivace.config.data import DataSettings
from vivace.data.rows import Row
from vivace.data.steps import CleanRow, RowStep
from vivace.data.trail import StepTrail

_BREAKS = "br|p|div|li|ul|ol|tr|table|h[1-6]|hr|blockquote|section|article|header|footer|pre"
_INLINE = (
    "a|abbr|b|big|body|center|cite|code|del|dd|dl|dt|em|font|form|head|html|i|img|input|ins|kbd|label|link|main|mark"
    "|meta|nav|s|small|span|strike|strong|sub|sup|tbody|td|tfoot|th|thead|title|tt|u"
)
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b[^>]*>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_LINK = re.compile(
    r"""<a\s[^>]*?href\s*=\s*["']?((?:https?|mailto|tel):[^"'>\s]+)["']?[^>]*>(.*?)</a\s*>""", re.DOTALL | re.IGNORECASE
)
_BREAK_TAG = re.compile(rf"\s*</?(?:{_BREAKS})(?:\s[^<>]*)?/?>\s*", re.IGNORECASE)
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MAX_ROUNDS = 4


def _open(_settings: DataSettings) -> CleanRow:
    return clean


def clean(row: Row, trail: StepTrail) -> Row:
    """Repair every turn but tool results, whose text is data."""
    counts: Counter[str] = Counter()
    changed, before, after = row.with_texts(lambda text: _repaired(text, counts))
    if counts:
        trail.change(row, dict(counts), before, after)
    return changed


def _repaired(text: str, counts: Counter[str]) -> str:
    if text.isascii() and "<" not in text and "&" not in text and not _CONTROL.search(text):
        return text
    text, found = repair(text)
    counts.update(found)
    return text


STEP = RowStep(_open)


def repair(text: str) -> tuple[str, dict[str, int]]:
    """Return the text with characters repaired and markup taken out, and how often each was needed.

    Text in backticks is left as it is. Escaped markup is taken out, too, so rounds go on until nothing changes.
    """
    counts: Counter[str] = Counter()
    fixed = repair_characters(text)
    if fixed != text:
        counts["turns with repaired characters"] += 1
        text = fixed
    for _ in range(MAX_ROUNDS):
        if "<" not in text and "&" not in text:
            break
        before = text
        text = "".join(
            part if place % 2 else _strip_markup(part, counts) for place, part in enumerate(_CODE.split(text))
        )
        if text == before:
            break
    return text, dict(counts)


def repair_characters(text: str) -> str:
    """Return the text with mojibake decoded, control characters removed and composed characters (NFC)."""
    if text.isascii() and not _CONTROL.search(text):
        return text
    import ftfy

    return ftfy.fix_text(text, _config())


def _strip_markup(text: str, counts: Counter[str]) -> str:
    text, hidden = _HIDDEN.subn("", text)
    text, links = _LINK.subn(_spell_out, text)
    text, breaks = _BREAK_TAG.subn("\n", text)
    text, inline = _INLINE_TAG.subn("", text)
    entities = len(_ENTITY.findall(text))
    if entities:
        unescaped = html.unescape(text)
        entities = entities if unescaped != text else 0
        text = unescaped
    for name, count in (("HTML tags removed", hidden + links + breaks + inline), ("HTML entities decoded", entities)):
        if count:
            counts[name] += count
    return text.strip("\n") if breaks else text


def _spell_out(match: re.Match[str]) -> str:
    address, shown = match[1], match[2]
    bare = re.sub(r"^(?:mailto|tel):", "", address)
    return shown if bare.rstrip("/") in shown else f"{shown} ({bare})"


@cache
def _config() -> Any:
    import ftfy

    # Curly quotes, ligatures and full-width forms are how people write; only damage is repaired.
    return ftfy.TextFixerConfig(
        unescape_html=False, uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, explain=False
    )
