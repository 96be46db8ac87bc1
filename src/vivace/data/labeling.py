"""Label a whole corpus: topics, corrections by a person, labels that look wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from vivace.config.data import DataSettings
from vivace.data.corpus import Corpus
from vivace.data.labels.corrections import read_corrections
from vivace.data.labels.suspects import find_suspects
from vivace.data.labels.topics import label_topics
from vivace.data.trail import StepTrail
from vivace.domain import Progress
from vivace.index.embedders import Embedder, open_embedder
from vivace.index.embedders.remembered import Remembered

STEP = "labels"


def needed_embedder(settings: DataSettings, progress: Progress) -> Embedder | None:
    """Open the embedder that the settings need, None if nothing needs one."""
    if "topic" in settings.label.fields or settings.balance.keep_best is not None:
        return Remembered(open_embedder(settings.label.embedder, progress=progress))
    return None


def label_corpus(
    corpus: Corpus, settings: DataSettings, root: Path, embedder: Embedder | None
) -> tuple[StepTrail, dict[str, Any], list[dict[str, Any]]]:
    """Annotate the corpus; return what was done, sections for the report, and rows of suspicious labels."""
    trail = StepTrail(STEP)
    trail.rows_in = trail.rows_out = len(corpus)
    sections: dict[str, Any] = {}
    if embedder is not None and "topic" in settings.label.fields:
        sections["topics"] = msgspec.to_builtins(label_topics(corpus, settings, embedder, trail))
    corrections = _correct(corpus, settings, root)
    if corrections:
        sections["corrections"] = corrections
        trail.changes["corrected by a person"] += corrections["applied"]
    suspects: list[dict[str, Any]] = []
    if embedder is not None:
        # Topics are not checked: they come from the same embeddings.
        suspects, note = find_suspects(corpus, settings, embedder, settings.label.intent_field)
        sections["suspects"] = {"field": settings.label.intent_field, "found": len(suspects), "note": note}
    return trail, sections, suspects


def _correct(corpus: Corpus, settings: DataSettings, root: Path) -> dict[str, Any]:
    corrections = read_corrections(root / settings.label.corrections)
    if not len(corrections) and not corrections.rejects:
        return {}
    values: dict[str, dict[int, Any]] = {}
    for place, row in corpus.rows():
        corrected = corrections.apply(row)
        for field, value in _changed(row.example.metadata, corrected.example.metadata):
            values.setdefault(field, {})[place] = value
    for field, by_place in values.items():
        corpus.annotate(field, by_place)
    return corrections.summary()


def _changed(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((field, value) for field, value in after.items() if before.get(field) != value)
