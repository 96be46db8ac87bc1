"""One kind of space, one kind of line end."""

import re

from vivace.config.data import DataSettings
from vivace.data.rows import Row
from vivace.data.steps import CleanRow, RowStep
from vivace.data.trail import StepTrail

_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_SPACES = re.compile("[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\x0b\x0c]+")
_LINE_ENDS = re.compile("\r\n?|\u2028|\u0085")
_BLANK_LINES = re.compile("\n{3,}|\u2029")
_FENCE = re.compile(r"(```.*?```)", re.DOTALL)


def _open(_settings: DataSettings) -> CleanRow:
    return clean


def clean(row: Row, trail: StepTrail) -> Row:
    """Squeeze white space in every turn but tool results."""
    changed, before, after = row.with_texts(squeeze)
    if changed is not row:
        pairs = zip(row.example.messages, changed.example.messages, strict=True)
        trail.change(row, {"turns squeezed": sum(one != other for one, other in pairs)}, before, after)
    return changed


STEP = RowStep(_open)


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
