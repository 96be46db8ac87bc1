"""One kind of space, one kind of line end."""

import re

import msgspec

from vivace.config.settings import DataSettings
from vivace.data.rows import Row
from vivace.data.trail import StepTrail

_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_SPACES = re.compile("[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\x0b\x0c]+")
_LINE_ENDS = re.compile("\r\n?|\u2028|\u0085")
_BLANK_LINES = re.compile("\n{3,}|\u2029")
_FENCE = re.compile(r"(```.*?```)", re.DOTALL)


def clean(rows: list[Row], settings: DataSettings, trail: StepTrail) -> list[Row]:
    """Squeeze white space in every turn but tool results."""
    kept: list[Row] = []
    for row in rows:
        messages = tuple(
            msgspec.structs.replace(message, content=squeeze(message.content)) if message.role != "tool" else message
            for message in row.example.messages
        )
        if messages != row.example.messages:
            changed = [(a, b) for a, b in zip(row.example.messages, messages, strict=True) if a != b]
            trail.change(row, {"turns squeezed": len(changed)}, changed[0][0].content, changed[0][1].content)
            row = row.with_messages(messages)
        kept.append(row)
    return kept


def squeeze(text: str) -> str:
    """Return the text without invisible characters, trailing or doubled spaces and more than one blank line.

    Fenced code keeps its spaces.
    """
    text = _LINE_ENDS.sub("\n", _INVISIBLE.sub("", text))
    parts = [part if place % 2 else _squeeze_prose(part) for place, part in enumerate(_FENCE.split(text))]
    return "".join(parts).strip()


def _squeeze_prose(text: str) -> str:
    text = _SPACES.sub(" ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return _BLANK_LINES.sub("\n\n", text)
