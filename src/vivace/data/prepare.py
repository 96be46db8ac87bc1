"""The data stage: read, clean, split, and write down everything that was done."""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from vivace.config.settings import DataSettings
from vivace.data.card import write_card
from vivace.data.documents import read_documents
from vivace.data.files import conversation_files, document_files, label
from vivace.data.privacy.redaction import Redactor, veil, with_contacts_of
from vivace.data.reading import ConversationReader, FileReading
from vivace.data.report import Outcome, build_report, facts, reasons
from vivace.data.rows import Reject, Row
from vivace.data.split import assign, place_of
from vivace.data.steps import STEPS, run_step
from vivace.data.trail import StepTrail
from vivace.domain import Example, Progress, Workspace
from vivace.errors import DataError
from vivace.store.files import write_atomic
from vivace.store.rows import write_examples

_ENCODER = msgspec.json.Encoder(order="deterministic")


def prepare(settings: DataSettings, root: Path, workspace: Workspace) -> dict[str, Any]:
    """Turn the files that the settings name into a dataset in `workspace.out`, and return what is worth telling.

    Writes examples.jsonl, documents.jsonl, dropped.jsonl, rejects.jsonl, report.json and card.md, the same bytes for
    the same inputs. With the step `personal`, nothing it finds is in any of them, dropped rows included.
    """
    for name in settings.steps:
        STEPS.load(name)
    rejects: dict[str, list[Reject]] = {}
    document_paths = document_files(settings, root)
    documents = list(read_documents(document_paths, root, rejects))
    settings = with_contacts_of(settings, (document.text for document in documents))
    redactor = Redactor(settings) if "personal" in settings.steps else None
    rows, readings, sampled_out = _read(settings, root, workspace.progress)
    rejects.update((reading.label, reading.rejects) for _, reading in readings if reading.rejects)
    trails: list[StepTrail] = []
    with workspace.progress.task("Cleaning", total=len(settings.steps) + 1) as bar:
        for name in settings.steps:
            bar.note(f"{name}: {len(rows):,} conversations")
            rows, trail = run_step(name, rows, settings, partial(veil, redactor=redactor) if redactor else str)
            trails.append(trail)
            bar.advance()
        rows, trail = assign(rows, settings)
        trails.append(trail)
        bar.advance()
    outcome = Outcome(
        readings=readings,
        trails=trails,
        examples=[row.example for row in rows],
        documents=documents,
        document_paths=[(label(path, root), path) for path in document_paths],
        sampled_out=sampled_out,
    )
    outcome.rejected = {name: len(found) for name, found in rejects.items()}
    _refuse_nothing_left(outcome)
    _write(workspace.out, outcome, rejects, redactor)
    return facts(outcome)


def _read(
    settings: DataSettings, root: Path, progress: Progress
) -> tuple[list[Row], list[tuple[str, FileReading]], int]:
    """Return the rows to clean in reading order, what each file gave, and how many rows the sample leaves out."""
    conversations, test = conversation_files(settings, root)
    reader = ConversationReader(settings)
    readings: list[tuple[str, FileReading]] = []
    sample = Sampler(settings.max_conversations, settings.seed)
    held_out: list[Row] = []
    take: Callable[[Row], None]
    with progress.task("Reading", total=len(conversations) + len(test)) as bar:
        for used_as, paths, take in (("conversations", conversations, sample.add), ("test", test, held_out.append)):
            for path in paths:
                reading = FileReading(path, label(path, root))
                bar.note(reading.label)
                for row in reader.read(path, reading, held_out=used_as == "test"):
                    take(row)
                readings.append((used_as, reading))
                bar.advance()
    return [*sample.rows(), *held_out], readings, sample.left_out


class Sampler:
    """Keeps a seeded sample of rows that does not depend on their order, in their order."""

    def __init__(self, size: int | None, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._kept: list[tuple[float, int, Row]] = []
        self._count = 0

    def add(self, row: Row) -> None:
        """Take a row into the sample, or leave it or another out."""
        self._count += 1
        self._kept.append((place_of(f"sample {row.example.content_hash}", self._seed), self._count, row))
        if self._size is not None and len(self._kept) >= 2 * self._size + 1000:
            self._shrink()

    def rows(self) -> list[Row]:
        """Return the sample."""
        self._shrink()
        return [row for _place, _count, row in sorted(self._kept, key=lambda item: item[1])]

    @property
    def left_out(self) -> int:
        """Return how many rows are not in the sample."""
        return 0 if self._size is None else max(0, self._count - self._size)

    def _shrink(self) -> None:
        if self._size is not None:
            self._kept = sorted(self._kept, key=lambda item: item[:2])[: self._size]


def _refuse_nothing_left(outcome: Outcome) -> None:
    if any(example.split == "train" for example in outcome.examples):
        return
    read = sum(reading.conversations for _, reading in outcome.readings)
    if not read:
        raise DataError("No conversation was found in the files named.", "Are they empty?")
    told = ", ".join(f"{reason} ({count})" for reason, count in list(reasons(outcome.dropped()).items())[:4])
    raise DataError(f"None of {read} conversations is left to learn from.", f"Dropped: {told}." if told else "")


def _write(out: Path, outcome: Outcome, rejects: dict[str, list[Reject]], redactor: Redactor | None) -> None:
    report = build_report(outcome)
    write_examples(out / "examples.jsonl", outcome.examples)
    write_atomic(out / "documents.jsonl", _lines(outcome.documents))
    write_atomic(out / "dropped.jsonl", _lines(_dropped(outcome, redactor)))
    write_atomic(out / "rejects.jsonl", _lines(_rejected(rejects, redactor)))
    write_atomic(out / "report.json", json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    write_atomic(out / "card.md", write_card(report, outcome.examples))


def _dropped(outcome: Outcome, redactor: Redactor | None) -> Iterator[dict[str, Any]]:
    for drop in outcome.dropped():
        row: Example = redactor.conversation().example(drop.row) if redactor else drop.row
        told = {"step": drop.step, "reason": drop.reason, "detail": drop.detail, "held_out": drop.held_out}
        yield {**told, "id": row.id, "source": row.source, "row": row}


def _rejected(rejects: dict[str, list[Reject]], redactor: Redactor | None) -> Iterator[dict[str, Any]]:
    for name, found in sorted(rejects.items()):
        for reject in found:
            text = redactor.text(reject.text) if redactor else reject.text
            yield {"file": name, "line": reject.line, "reason": reject.reason, "text": text}


def _lines(items: Iterable[Any]) -> bytes:
    return b"".join(_ENCODER.encode(item) + b"\n" for item in items)
