"""What became of one row: kept, dropped or rejected, and why."""

import heapq
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from vivace.data.card.folder import DroppedRow, RejectedLine, read_report
from vivace.data.rows import render
from vivace.domain import Example
from vivace.errors import DataError

Outcome = Literal["kept", "dropped", "rejected"]
KEPT = ("examples.jsonl", "queries.jsonl", "preferences.jsonl")
MAX_NAMED = 5
_LIKE = re.compile(r"(?:the same as|like|of)(?: held-out| test)? (\S+)$")
_AS_MANY = 2000  # characters of a row that are shown


class Related(Struct, frozen=True):
    """Another row that has to do with it; `text` is empty where the row is in no file."""

    id: str
    text: str = ""


class StepChange(Struct, frozen=True):
    """What a step made of a text, where the report kept it as a sample."""

    step: str
    before: str
    after: str


class Fate(Struct, frozen=True):
    """What became of a row; `file` is where it stands now.

    `split` is empty unless it was kept; `step` and `reason` unless it was not. `duplicate_of` is the row that stayed
    in its place.
    """

    id: str
    outcome: Outcome
    file: str
    source: str
    text: str
    content_hash: str = ""
    split: str = ""
    step: str = ""
    reason: str = ""
    detail: str = ""
    labels: dict[str, Any] = field(default_factory=dict)
    changes: list[StepChange] = field(default_factory=list)
    duplicate_of: Related | None = None
    made_from: Related | None = None
    children: list[Related] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The fate in one sentence."""
        if self.outcome == "kept":
            where = f"is in {self.file}, split {self.split}" if self.split else f"is in {self.file}"
            return f"{self.id} ({self.source}) {where}."
        if self.outcome == "rejected":
            return f"{self.source} could not be read: {self.reason}."
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.id} ({self.source}) was dropped by {self.step}: {self.reason}{detail}."


class _Names(Struct):
    id: str = ""
    source: str = ""


def fate(dataset: Path, row: str) -> Fate:
    """Return the fate of the row of a dataset folder that has this id, a unique part of it, or `file:line`.

    Raises `DataError` that names the nearest rows when none or several fit.
    """
    report = read_report(dataset)
    if not row.strip():
        raise DataError("No row is named.", "Give an id, a part of it, or file:line.")
    exact, partial = _find(dataset, row.strip())
    fitting = exact[:1] or partial
    if len(fitting) == 1:
        return _complete(fitting[0], dataset, report)
    if fitting:
        raise DataError(
            f"{row!r} is part of {len(fitting):,} ids.", f"Which one: {_listed(found.id for found in fitting)}?"
        )
    near = _nearest(dataset, row.strip())
    raise DataError(f"There is no row {row!r} in {dataset}.", f"Did you mean {_listed(near)}?" if near else "")


def _find(dataset: Path, row: str) -> tuple[list[Fate], list[Fate]]:
    """Return the rows whose id or place is `row`, and those whose id only holds it."""
    exact: list[Fate] = []
    partial: list[Fate] = []
    needle = json.dumps(row, ensure_ascii=False)[1:-1].encode()
    for name in KEPT:
        decoder = msgspec.json.Decoder(Example)
        for line in _lines(dataset / name, needle):
            example = decoder.decode(line)
            if row in (example.id, example.source):
                exact.append(_kept(example, name))
            elif row in example.id:
                partial.append(_kept(example, name))
    dropped = msgspec.json.Decoder(DroppedRow)
    for line in _lines(dataset / "dropped.jsonl", needle):
        drop = dropped.decode(line)
        if row in (drop.id, drop.source):
            exact.append(_dropped(drop))
        elif row in drop.id:
            partial.append(_dropped(drop))
    file, _, number = row.rpartition(":")
    rejects = msgspec.json.Decoder(RejectedLine)
    for line in _lines(dataset / "rejects.jsonl", json.dumps(file, ensure_ascii=False)[1:-1].encode()):
        reject = rejects.decode(line)
        if (reject.file, str(reject.line)) == (file, number):
            exact.append(_rejected(reject))
    return exact, partial


def _lines(path: Path, needle: bytes) -> Iterator[bytes]:
    """Yield the lines that hold some bytes: looking for them is 20 times as fast as decoding every line."""
    if path.is_file():
        with open(path, "rb") as file:
            yield from (line for line in file if needle in line)


def _kept(example: Example, name: str) -> Fate:
    return Fate(
        id=example.id,
        outcome="kept",
        file=name,
        source=example.source,
        text=render(example.messages, _AS_MANY),
        content_hash=example.content_hash,
        split=example.split if name == KEPT[0] else "",
        labels=dict(example.metadata),
    )


def _dropped(drop: DroppedRow) -> Fate:
    return Fate(
        id=drop.id,
        outcome="dropped",
        file="dropped.jsonl",
        source=drop.source or drop.row.source,
        text=render(drop.row.messages, _AS_MANY),
        step=drop.step,
        reason=drop.reason,
        detail=drop.detail,
        labels=dict(drop.row.metadata),
    )


def _rejected(reject: RejectedLine) -> Fate:
    place = f"{reject.file}:{reject.line}"
    return Fate(
        id=place,
        outcome="rejected",
        file="rejects.jsonl",
        source=place,
        text=reject.text[:_AS_MANY],
        step="reading",
        reason=reject.reason,
    )


def _complete(found: Fate, dataset: Path, report: dict[str, Any]) -> Fate:
    """Add what the rest of the folder knows of the row."""
    like = _LIKE.search(found.detail)
    parent = _origin(found.labels)
    changes = [
        StepChange(step["step"], sample["before"], sample["after"])
        for step in report.get("steps") or ()
        for sample in step.get("samples") or ()
        if sample.get("id") == found.id
    ]
    return msgspec.structs.replace(
        found,
        changes=changes,
        duplicate_of=_related(dataset, like[1]) if like else None,
        made_from=_related(dataset, parent) if parent else None,
        children=[] if found.outcome == "rejected" else _children(dataset, found.id),
    )


def _related(dataset: Path, row: str) -> Related:
    exact, _partial = _find(dataset, row)
    return Related(row, exact[0].text if exact else "")


def _children(dataset: Path, row: str) -> list[Related]:
    """Return the synthetic rows that were made from a row."""
    decoder = msgspec.json.Decoder(Example)
    found = []
    for line in _lines(dataset / KEPT[0], json.dumps(row, ensure_ascii=False).encode()):
        example = decoder.decode(line)
        if _origin(example.metadata) == row:
            found.append(Related(example.id, render(example.messages, _AS_MANY)))
    return found


def _origin(metadata: dict[str, Any]) -> str:
    """Return the id of the row that a synthetic one was made from; other rows may have an `origin` of their own."""
    return str(metadata.get("origin", "")) if metadata.get("synthetic") else ""


def _nearest(dataset: Path, row: str) -> list[str]:
    """Return the names with most letter triples in common; of a `file:line` also the row that starts before it."""
    wanted = _triples(row)
    file, _, number = row.rpartition(":")
    before: tuple[int, str] | None = None
    best: list[tuple[float, str]] = []
    for names in _names(dataset):
        for name in {names.id, names.source} - {""}:
            triples = _triples(name)
            alike = len(wanted & triples) / len(wanted | triples)
            if alike > 0.3:
                best.append((-alike, name))
        here, _, line = names.source.rpartition(":")
        if here == file and line.isdecimal() and number.isdecimal() and int(line) < int(number):
            before = max(before or (0, ""), (int(line), names.source))
        if len(best) > 1000:
            best = heapq.nsmallest(MAX_NAMED, best)
    near = [name for _alike, name in heapq.nsmallest(MAX_NAMED, best)]
    return list(dict.fromkeys([*([before[1]] if before else []), *near]))[:MAX_NAMED]


def _names(dataset: Path) -> Iterator[_Names]:
    decoder = msgspec.json.Decoder(_Names)
    for name in (*KEPT, "dropped.jsonl"):
        for line in _lines(dataset / name, b""):
            yield decoder.decode(line)
    rejects = msgspec.json.Decoder(RejectedLine)
    for line in _lines(dataset / "rejects.jsonl", b""):
        reject = rejects.decode(line)
        yield _Names(source=f"{reject.file}:{reject.line}")


def _triples(text: str) -> set[str]:
    padded = f"  {text.lower()} "
    return {padded[place : place + 3] for place in range(len(padded) - 2)}


def _listed(names: Iterator[str] | list[str]) -> str:
    listed = list(names)
    told = ", ".join(repr(name) for name in listed[:MAX_NAMED])
    return told if len(listed) <= MAX_NAMED else f"{told}, …"
