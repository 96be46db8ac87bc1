"""The user's files of probes: sentence pairs, requests, documents with instructions to hide in them."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from vivace.domain import Message
from vivace.errors import DataError

_YES = {"true", "1", "yes", "safe"}
_NO = {"false", "0", "no", "unsafe"}


class Pair(Struct, frozen=True):
    """Two sentences that differ in who is spoken of; `more` is the stereotype."""

    id: str
    more: str
    less: str
    kind: str


class Requested(Struct, frozen=True):
    """A request; a harmless one (`safe`) must be answered, a harmful one refused."""

    id: str
    messages: tuple[Message, ...]
    safe: bool
    kind: str


class Document(Struct, frozen=True):
    """A text from outside and a question about it."""

    id: str
    context: str
    question: str


class Attack(Struct, frozen=True):
    """An instruction to hide in a document; `marker` is what an answer that follows it contains."""

    id: str
    text: str
    kind: str
    marker: str = ""


_Row = TypeVar("_Row", Pair, Requested, Document, Attack)


def read_pairs(path: Path) -> list[Pair]:
    """Return sentence pairs in the layout of CrowS-Pairs: `sent_more`, `sent_less`, `bias_type`."""
    pairs = []
    for number, row in _rows(path, "pairs"):
        more = _text(row, "sent_more", "more_stereotyped", "stereotype")
        less = _text(row, "sent_less", "less_stereotyped", "anti_stereotype")
        if not more or not less:
            _bad(path, number, "has no two sentences", "It needs sent_more (the stereotype), sent_less and bias_type.")
        if more == less:
            _bad(path, number, "has the same sentence twice", "Leave the line out.")
        pairs.append(Pair(_id(row, number), more, less, _text(row, "bias_type", "type") or "all"))
    return _unique(path, pairs)


def read_requests(path: Path) -> list[Requested]:
    """Return requests in the layout of XSTest: `prompt` (or `messages`), `type`, and `label` safe or unsafe."""
    requests = []
    for number, row in _rows(path, "refusals"):
        kind = _text(row, "type", "category")
        told = row.get("safe", row.get("label"))
        word = str(told).strip().lower() if told not in (None, "") else ""
        if not word and kind:  # as XSTest's own file told it before it had labels
            word = "no" if kind.startswith("contrast") else "yes"
        if word not in _YES | _NO:
            _bad(path, number, f"does not tell whether the request is harmless ({told!r})", "label: safe or unsafe.")
        requests.append(Requested(_id(row, number), _messages(path, number, row), word in _YES, kind or "all"))
    return _unique(path, requests)


def read_injections(path: Path) -> tuple[list[Document], list[Attack]]:
    """Return documents (`context`, `question`) and attacks (`text`, `category`, `marker`), as BIPIA has them."""
    documents, attacks = [], []
    for number, row in _rows(path, "injections"):
        context, text = _text(row, "context"), _text(row, "text", "attack")
        if context and text:
            _bad(path, number, "is a document and an attack at once", "Give each a line of its own.")
        if context:
            documents.append(Document(_id(row, number), context, _text(row, "question") or "What does it say?"))
        elif text:
            kind = _text(row, "category", "type") or "all"
            attacks.append(Attack(_id(row, number), text, kind, _text(row, "marker")))
        else:
            _bad(path, number, "is neither a document nor an attack", "It needs context and question, or text.")
    if not documents:
        raise DataError(f"{path} holds no document to hide instructions in.", "Lines with context and question.")
    return _unique(path, documents), _unique(path, attacks)


def _rows(path: Path, setting: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield line number and row of a file of JSON lines or of comma-separated values, either of them gzipped."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path} is not there.", f"It is `{setting}` in [evaluate.ethics].") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.", f"It is `{setting}` in [evaluate.ethics].") from error
    found = False
    if ".csv" in path.suffixes:
        rows: Iterator[tuple[int, Any]] = enumerate(csv.DictReader(io.StringIO(text)), start=2)
    else:
        rows = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    for number, row in rows:
        if isinstance(row, str):
            try:
                row = json.loads(row)
            except ValueError as error:
                _bad(path, number, f"is no JSON ({error})", "One JSON object a line, or a .csv file.")
        if not isinstance(row, Mapping):
            _bad(path, number, "is no JSON object", "One JSON object a line, or a .csv file.")
        found = True
        yield number, row
    if not found:
        raise DataError(f"{path} holds nothing.", f"It is `{setting}` in [evaluate.ethics].")


def _messages(path: Path, number: int, row: Mapping[str, Any]) -> tuple[Message, ...]:
    if prompt := _text(row, "prompt"):
        return (Message("user", prompt),)
    try:
        messages = msgspec.convert(row.get("messages"), type=tuple[Message, ...])
    except msgspec.ValidationError as error:
        _bad(path, number, f"has no request ({error})", "It needs prompt, or messages as OpenAI writes them.")
    if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
        _bad(path, number, "does not end with a user's text", "It needs prompt, or messages as OpenAI writes them.")
    return messages


def _text(row: Mapping[str, Any], *names: str) -> str:
    return next((str(row[name]).strip() for name in names if row.get(name) not in (None, "")), "")


def _id(row: Mapping[str, Any], number: int) -> str:
    return _text(row, "id") or f"line {number}"


def _unique(path: Path, rows: list[_Row]) -> list[_Row]:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise DataError(f"{path} has two lines with the id {row.id!r}.", "Give each an id of its own, or none.")
        seen.add(row.id)
    return rows


def _bad(path: Path, number: int, what: str, hint: str) -> NoReturn:
    raise DataError(f"Line {number} of {path} {what}.", hint)
