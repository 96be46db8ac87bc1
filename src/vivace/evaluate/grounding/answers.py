"""A file of answers with the sources they were given, and what is found in it."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.domain import Interval, Progress, Score
from vivace.errors import DataError
from vivace.evaluate.grounding.runs import lines_of
from vivace.evaluate.grounding.support import Embeds, Faithfulness, faithfulness
from vivace.stats import bootstrap_mean, bootstrap_rows, mean_of_rows, proportion_interval

SHAPE = 'A line is {"answer": text, "sources": [text, …]}, with an "id" if you like.'
LABELS = ("supported", "contradicted", "unsupported", "no claim")


class Grounded(Struct, frozen=True):
    """An answer and the sources that it was to be written from."""

    id: str
    answer: str
    sources: tuple[str, ...]


class GroundingReport(Struct, frozen=True):
    """What became of all answers.

    `faithful` is the share of supported claims, `whole` that of answers of which every claim is supported.
    """

    embedder: str
    faithful: Score | None
    whole: Score | None
    counts: dict[str, int]
    answers: tuple[Faithfulness, ...]
    sourceless: tuple[str, ...]


def read_answers(path: Path) -> list[Grounded]:
    """Return the rows of a file; raises `DataError` with the line that cannot be used."""
    rows: dict[str, Grounded] = {}
    for number, line in lines_of(path):
        try:
            row = _row(line, number)
            if row.id in rows:
                raise ValueError(f"the id {row.id!r} is there a second time")
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}.", SHAPE) from error
        rows[row.id] = row
    if not rows:
        raise DataError(f"{path} is empty.", SHAPE)
    return list(rows.values())


def measure_grounding(
    rows: Sequence[Grounded],
    embedder: Embeds | None,
    name: str,
    progress: Progress,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> GroundingReport:
    """Return what the sources say to each claim of each answer; an answer without sources supports nothing."""
    found = []
    with progress.task("Looking answers up in their sources", total=len(rows)) as bar:
        for row in rows:
            found.append(faithfulness(row.id, row.answer, row.sources, embedder))
            bar.advance()
    counts: Counter[str] = Counter(claim.label for each in found for claim in each.claims)
    told = [each for each in found if each.share is not None]
    tallies = [
        [
            float(sum(claim.label == "supported" for claim in each.claims)),
            float(sum(claim.label != "no claim" for claim in each.claims)),
        ]
        for each in told
    ]
    faithful = whole = None
    if told:
        hits, total = (sum(row[side] for row in tallies) for side in (0, 1))
        interval = bootstrap_rows(tallies, mean_of_rows, level=level, resamples=resamples, seed=seed)
        if interval.low == interval.high:
            interval = proportion_interval(int(hits), int(total), level=level)
        faithful = Score("supported claims", hits / total, interval, int(total))
        flags = [float(each.share == 1) for each in told]
        own = bootstrap_mean(flags, level=level, resamples=resamples, seed=seed)
        if own.low == own.high:
            own = proportion_interval(int(sum(flags)), len(flags), level=level)
        whole = Score("faithful answers", sum(flags) / len(flags), Interval(own.low, own.high, level), len(flags))
    return GroundingReport(
        name,
        faithful,
        whole,
        {label: counts.get(label, 0) for label in LABELS},
        tuple(found),
        tuple(row.id for row in rows if not any(source.strip() for source in row.sources)),
    )


def _row(line: str, number: int) -> Grounded:
    try:
        told: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(told, dict):
        raise ValueError(f"a {type(told).__name__} instead of an object")
    answer, sources = told.get("answer"), told.get("sources")
    if not isinstance(answer, str):
        raise ValueError(f"answer is {answer!r}; text is wanted" if "answer" in told else "there is no 'answer'")
    if isinstance(sources, str):
        raise ValueError("sources is text; a list of texts is wanted")
    if not isinstance(sources, list):
        raise ValueError("there is no list 'sources'")
    texts = tuple(_source(each) for each in sources)
    named = told.get("id")
    given = str(named) if isinstance(named, str | int) and named != "" else ""
    return Grounded(given or f"line-{number}-{hashlib.sha256(answer.encode()).hexdigest()[:6]}", answer, texts)


def _source(told: Any) -> str:
    text = told.get("text") if isinstance(told, dict) else told
    if not isinstance(text, str):
        raise ValueError("a source is neither text nor an object with a text")
    return text
