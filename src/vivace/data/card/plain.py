"""Markdown pieces that hold any text: tables and fenced blocks."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

_FENCES = re.compile(r"`+")
_MEANING = re.compile(r"([\\`*_\[\]<>|])")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; numbers get thousands separators and stand right."""
    listed = [tuple(row) for row in rows]
    numeric = [bool(listed) and all(_is_number(row[place]) for row in listed) for place in range(len(head))]
    lines = [_line(head), "| " + " | ".join("---:" if right else "---" for right in numeric) + " |"]
    return "\n".join([*lines, *map(_line, listed)])


def fenced(text: str) -> str:
    """Return a block whose fence is longer than any run of backticks in the text."""
    fence = "`" * max(3, *(len(run) + 1 for run in ["", *_FENCES.findall(text)]))
    return f"{fence}text\n{text}\n{fence}"


def plain(text: object) -> str:
    """Return a text on one line that Markdown shows as it is."""
    return _MEANING.sub(r"\\\1", " ".join(str(text).split()))


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else plain(cell) for cell in cells) + " |"


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) or (isinstance(cell, str) and bool(re.fullmatch(r"[+-]?[\d,.]+ ?%?", cell)))
