"""Retrieval and grounding from files: no project is needed, what is found can be written to a folder."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from vivace.domain import Comparison, Progress
from vivace.evaluate.grounding import (
    GroundingReport,
    Retrieval,
    compare_retrieval,
    measure_grounding,
    measure_retrieval,
    read_answers,
    read_judgments,
    read_run,
)
from vivace.evaluate.grounding.page import markdown, page
from vivace.evaluate.grounding.retrieval import CUTS
from vivace.store.files import write_atomic

NO_EMBEDDER = "none"


class RetrievalReport(Struct, frozen=True):
    """A run, the run it is compared with if there is one, and the comparison by measure."""

    run: Retrieval
    against: Retrieval | None = None
    comparisons: tuple[Comparison, ...] = ()


def evaluate_retrieval(
    run: Path,
    judgments: Path,
    against: Path | None = None,
    *,
    cuts: Sequence[int] | None = None,
    out: Path | None = None,
) -> RetrievalReport:
    """Score a run on judgments and compare it with another one; `out` gets `retrieval.json`."""
    known = read_judgments(judgments)
    first = measure_retrieval(run.name, read_run(run), known, cuts=cuts or CUTS)
    report = RetrievalReport(first)
    if against is not None:
        name = against.name if against.name != run.name else str(against)
        second = measure_retrieval(name, read_run(against), known, cuts=cuts or CUTS)
        report = RetrievalReport(first, second, tuple(compare_retrieval(first, second)))
    if out is not None:
        write_atomic(out / "retrieval.json", msgspec.json.format(msgspec.json.encode(report), indent=1))
    return report


def evaluate_grounding(
    answers: Path, progress: Progress, *, embedder: str = NO_EMBEDDER, out: Path | None = None
) -> GroundingReport:
    """Look the claims of answers up in their sources; `out` gets `grounding.json`, `.md` and `.html`."""
    rows = read_answers(answers)
    opened = None
    if embedder != NO_EMBEDDER:
        from vivace.index.embedders import open_embedder
        from vivace.index.embedders.remembered import Remembered

        opened = Remembered(open_embedder(embedder, progress=progress))
    report = measure_grounding(rows, opened, "" if opened is None else embedder, progress)
    if out is not None:
        write_atomic(out / "grounding.json", msgspec.json.format(msgspec.json.encode(report), indent=1))
        write_atomic(out / "grounding.md", markdown(report))
        write_atomic(out / "grounding.html", page(report))
    return report
