"""The data stage: read, clean, split, and write down everything that was done."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.card.page import write_card_page
from vivace.data.card.report import Outcome, Tally, build_report, facts
from vivace.data.cleaning import clean_corpus
from vivace.data.cleaning.run import append_drops
from vivace.data.corpus import Corpus
from vivace.data.corpus.corpus import pack
from vivace.data.corpus.spool import batches
from vivace.data.documents.reading import read_documents
from vivace.data.duplicates.leakage import LeakCheck, refuse_leaks
from vivace.data.labeling import label_corpus, needed_embedder
from vivace.data.measuring import measure
from vivace.data.privacy.redaction import Redactor, with_contacts_of
from vivace.data.reading.conversations import ConversationReader, FileReading
from vivace.data.reading.files import conversation_files, document_files, label
from vivace.data.rows import Reject, Row, is_answer
from vivace.data.shaping import Shape, shape_training
from vivace.data.split import OUT, SPLITS, STEP, TEST, assign, named_split, place_of
from vivace.data.steps import STEPS
from vivace.data.trail import StepTrail
from vivace.domain import Example, Workspace
from vivace.errors import DataError
from vivace.store.files import disk_errors, write_atomic
from vivace.store.rows import encode_line, write_lines

BATCH_ROWS = 512


def prepare(settings: DataSettings, root: Path, workspace: Workspace) -> dict[str, Any]:
    """Turn the files that the settings name into a dataset in `workspace.out`, and return what is worth telling.

    Writes examples.jsonl, queries.jsonl, preferences.jsonl, documents.jsonl, dropped.jsonl, rejects.jsonl, report.json
    and card.md, the same bytes for the same inputs. With the step `personal`, nothing it finds is in any of them,
    dropped rows included. Rows stay on disk, in `workspace.scratch`: memory does not grow with their texts.
    """
    for name in settings.steps:
        STEPS.load(name)
    rejects: dict[str, list[Reject]] = {}
    document_paths = document_files(settings, root)
    documents = list(read_documents(document_paths, root, rejects))
    settings = with_contacts_of(settings, (document.text for document in documents))
    drops = workspace.out / "dropped.jsonl"
    drops.unlink(missing_ok=True)
    corpus, readings, sampled_out = _read(settings, root, workspace)
    rejects.update((reading.label, reading.rejects) for _, reading in readings if reading.rejects)
    corpus, trails = clean_corpus(corpus, settings, workspace.scratch, drops, workspace.progress)
    outcome = Outcome(
        readings=readings,
        trails=trails,
        documents=documents,
        document_paths=[(label(path, root), path) for path in document_paths],
        tally=Tally(),
        sampled_out=sampled_out,
        rejected={name: len(found) for name, found in rejects.items()},
    )
    _finish(corpus, settings, root, outcome, workspace)
    corpus.close()
    _count_drops(drops, outcome.tally)
    _refuse_nothing_left(outcome)
    redactor = Redactor(settings) if "personal" in settings.steps else None
    write_lines(workspace.out / "documents.jsonl", map(encode_line, documents))
    write_lines(workspace.out / "rejects.jsonl", map(encode_line, _rejected(rejects, redactor)))
    report = build_report(outcome)
    write_atomic(workspace.out / "report.json", json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    write_card_page(workspace.out, root=root)
    return facts(outcome)


def _finish(corpus: Corpus, settings: DataSettings, root: Path, outcome: Outcome, workspace: Workspace) -> None:
    """Label, split, shape and write the cleaned rows, and add what was found to `outcome`."""
    out, progress = workspace.out, workspace.progress
    embedder = needed_embedder(settings, progress)
    with progress.task("Labeling", total=None):
        labels, sections, suspects = label_corpus(corpus, settings, root, embedder)
    trail = StepTrail(STEP)
    with progress.task("Splitting", total=None):
        splits, beyond = assign(corpus, settings, trail)
        sections["leakage"] = _keep_test_clean(corpus, splits, settings, trail)
        trail.changes.update({name: int((splits == code).sum()) for code, name in enumerate(SPLITS)})
    shape, shaping = shape_training(corpus, splits, settings, embedder, suspects)
    shape.unexamined = beyond
    outcome.trails += [labels, trail, shaping] if settings.balance.by or shape.sections else [labels, trail]
    append_drops(out / "dropped.jsonl", corpus.drops)
    with progress.task("Writing", total=None):
        sections["test_sha256"] = _write_rows(out, corpus, splits, shape, outcome.tally)
        if "suspects" in sections:
            write_lines(out / "suspects.jsonl", map(encode_line, suspects))
    with progress.task("Measuring", total=None):
        sections |= measure(corpus, settings, embedder)
    outcome.further |= {**sections, **shape.sections}
    outcome.further["settings"] = settings.model_dump(mode="json", exclude={"workers", "augment", "public_contacts"})


def _read(
    settings: DataSettings, root: Path, workspace: Workspace
) -> tuple[Corpus, list[tuple[str, FileReading]], int]:
    """Return the rows to clean in reading order, what each file gave, and how many rows the sample leaves out."""
    conversations, test = conversation_files(settings, root)
    reader = ConversationReader(settings)
    readings: list[tuple[str, FileReading]] = []
    corpus = Corpus(workspace.scratch, "read")
    places: list[float] = []
    with workspace.progress.task("Reading", total=len(conversations) + len(test)) as bar:
        for used_as, paths in (("conversations", conversations), ("test", test)):
            for path in paths:
                reading = FileReading(path, label(path, root))
                bar.note(reading.label)
                rows = reader.read(path, reading, held_out=used_as == "test")
                for batch in batches(_held_out(rows, settings), BATCH_ROWS):
                    corpus.extend([pack(row) for row in batch])
                    places += [_sample_place(row, settings) for row in batch]
                    bar.note(f"{reading.label}: {reading.conversations:,} conversations")
                readings.append((used_as, reading))
                bar.advance()
    reader.refuse_unused_columns()
    corpus.seal()
    return corpus, readings, _sample(corpus, np.array(places), settings.max_conversations)


def _held_out(rows: Iterable[Row], settings: DataSettings) -> Iterator[Row]:
    for row in rows:
        row.held_out = row.held_out or named_split(row.example, settings.split_field) == TEST
        yield row


def _sample_place(row: Row, settings: DataSettings) -> float:
    """Return a number that decides whether a row is sampled: below 0 always, else the smallest are."""
    if row.held_out or settings.max_conversations is None:
        return -1.0
    return place_of(f"sample {row.example.content_hash}", settings.seed)


def _sample(corpus: Corpus, places: np.ndarray, size: int | None) -> int:
    """Keep a seeded sample that does not depend on the rows' order, and return how many are not in it."""
    candidates = np.flatnonzero(places >= 0)
    if size is None or len(candidates) <= size:
        return 0
    ranked = candidates[np.argsort(places[candidates], kind="stable")]
    corpus.leave_out(ranked[size:])
    return len(candidates) - size


def _keep_test_clean(corpus: Corpus, splits: np.ndarray, settings: DataSettings, trail: StepTrail) -> dict[str, Any]:
    """Drop (or refuse) rows that repeat the test set, prove that none is left, and return what was found."""
    test = np.flatnonzero(splits == TEST)
    check = LeakCheck(corpus, test, settings.near_duplicate_threshold)
    leaks = check.find(np.flatnonzero((splits != TEST) & (splits != OUT)))
    counts = {"exact": 0, "normalized": 0, "ngram_13": 0, "near_duplicate": 0}
    rows = []
    for leak in leaks:
        counts[leak.kind] += 1
        learned, other = corpus.row(leak.learned).example, corpus.row(leak.test).example
        rows.append({"kind": leak.kind, "learned": learned.source, "test": other.source, "share": round(leak.share, 3)})
    if settings.on_leakage == "fail":
        refuse_leaks(corpus, leaks)
    for leak in leaks:
        splits[leak.learned] = OUT
        detail = f"{leak.kind} {leak.share:.2f} of test {corpus.row(leak.test).example.id}"
        corpus.drop(leak.learned, trail, "contamination", detail)
    if leaks:
        refuse_leaks(corpus, check.find(np.flatnonzero((splits != TEST) & (splits != OUT))))
    trail.rows_out = len(corpus)
    return {"tested": len(test), "removed": counts, "left": 0, "rows": rows[:50]}


def _write_rows(out: Path, corpus: Corpus, splits: np.ndarray, shape: Shape, tally: Tally) -> str:
    """Write the rows by what they are good for; return the SHA-256 of the test examples' lines."""
    digest = hashlib.sha256()
    names = ("examples", "queries", "preferences")
    paths = [out / f"{name}.jsonl" for name in names]
    with (
        disk_errors(out),
        open(paths[0], "wb") as examples,
        open(paths[1], "wb") as queries,
        open(paths[2], "wb") as preferences,
    ):
        for place, row in corpus.rows():
            example = msgspec.structs.replace(row.example, split=SPLITS[splits[place]])
            if place in shape.weights:
                metadata = {**example.metadata, "loss_weight": shape.weights[place]}
                example = msgspec.structs.replace(example, metadata=metadata)
            line = encode_line(example)
            tally.keep(example)
            if row.is_query:
                queries.write(line)
                tally.queries[example.split] += 1
                continue
            if row.is_preference:
                preferences.write(line)
                tally.preferences[example.split] += 1
            if place in shape.unexamined or is_disliked(example) or not is_answer(example.messages[-1]):
                continue
            if example.split == "test":
                digest.update(line)
            examples.write(line)
            tally.splits[example.split].add(example)
            for copy in range(2, shape.copies.get(place, 1) + 1):
                repeated = msgspec.structs.replace(example, id=f"{example.id}~{copy}")
                examples.write(encode_line(repeated))
                tally.splits[example.split].add(repeated)
    return digest.hexdigest()


def is_disliked(example: Example) -> bool:
    """Tell whether somebody found the answer bad: it is not to be learned from."""
    return example.rating is not None and example.rating < 0.5


class _Drop(Struct):
    step: str
    reason: str
    source: str


def _count_drops(path: Path, tally: Tally) -> None:
    decoder = msgspec.json.Decoder(_Drop)
    with open(path, "rb") as file:
        for line in file:
            drop = decoder.decode(line)
            tally.lose(drop.step, drop.reason, drop.source)


def _refuse_nothing_left(outcome: Outcome) -> None:
    tally = outcome.tally
    if tally.splits["train"].examples or tally.queries or tally.preferences:
        return
    read = sum(reading.conversations for _, reading in outcome.readings)
    if not read:
        raise DataError("No conversation was found in the files named.", "Are they empty?")
    told = ", ".join(f"{reason} ({count})" for reason, count in list(tally.dropped_by_reason.items())[:4])
    raise DataError(f"None of {read} conversations is left to learn from.", f"Dropped: {told}." if told else "")


def _rejected(rejects: dict[str, list[Reject]], redactor: Redactor | None) -> Iterator[dict[str, Any]]:
    for name, found in sorted(rejects.items()):
        for reject in found:
            text = redactor.text(reject.text) if redactor else reject.text
            yield {"file": name, "line": reject.line, "reason": reject.reason, "text": text}
