"""Run single parts of the data stage on rows in memory, as the stage runs them on files."""

import tempfile
from pathlib import Path

import msgspec

from vivace.config.data import DataSettings
from vivace.data.cleaning.batch import Cleaner, Plan, new_trail
from vivace.data.corpus import Corpus
from vivace.data.corpus.corpus import pack
from vivace.data.rows import Row
from vivace.data.split import OUT, SPLITS, assign
from vivace.data.steps import STEPS, CorpusStep
from vivace.data.trail import StepTrail

NOTHING = DataSettings.model_validate({"label": {"fields": []}})


def corpus_of(rows: list[Row], folder: Path, settings: DataSettings = NOTHING) -> Corpus:
    """Return the rows as a corpus whose files are in `folder`."""
    corpus = Corpus(folder, "rows")
    cleaned = Cleaner(Plan(settings, (), label=False)).clean([pack(row) for row in rows])
    corpus.extend(cleaned.rows, cleaned.sketches)
    return corpus.seal()


def run_step(name: str, rows: list[Row], settings: DataSettings) -> tuple[list[Row], StepTrail]:
    """Run one step and return the rows that stay and the trail, with the dropped rows in it."""
    step = STEPS.load(name)
    trail = StepTrail(name)
    trail.rows_in = len(rows)
    if not isinstance(step, CorpusStep):
        clean = step.open(settings)
        kept = [cleaned for row in rows if (cleaned := clean(row, trail)) is not None]
    else:
        with tempfile.TemporaryDirectory() as folder:
            corpus = corpus_of(rows, Path(folder), settings)
            trail.take_dropped = list  # type: ignore[method-assign,assignment]  # the rows stay in the trail
            step.open(settings)(corpus, trail)
            kept = [row for _place, row in corpus.rows()]
            corpus.close()
    trail.rows_out = len(kept)
    return kept, trail


def split_rows(rows: list[Row], settings: DataSettings) -> tuple[list[Row], StepTrail]:
    """Split and return the rows that stay, with their split, and the trail, with the dropped rows in it."""
    trail = new_trail("split", None)
    trail.take_dropped = list  # type: ignore[method-assign,assignment]
    with tempfile.TemporaryDirectory() as folder:
        corpus = corpus_of(rows, Path(folder), settings)
        splits, _beyond = assign(corpus, settings, trail)
        kept = [(place, row) for place, row in corpus.rows()]
        corpus.close()
    assert all(splits[place] != OUT for place, _row in kept)
    return [
        Row(msgspec.structs.replace(row.example, split=SPLITS[splits[place]]), row.group, row.held_out)
        for place, row in kept
    ], trail
