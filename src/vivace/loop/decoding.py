"""What temperature and length do to answers: quality and cost of each, compared in pairs with today's settings."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from vivace.domain import Artifact, Comparison, Interval, Progress, Score
from vivace.errors import ConfigError, DataError
from vivace.loop import stages
from vivace.loop.engines import own_exports
from vivace.loop.project import Project, open_project
from vivace.stats import bootstrap_mean, proportion_interval

TEMPERATURES = (0.0, 0.3, 0.7, 1.0)
LENGTHS = (40, 80, 160)
EXAMPLES = 60


class Decoded(Struct, frozen=True):
    """One way to decode: its quality, its answers' length in tokens, and the share that was cut off.

    `difference` compares it with today's settings on the same examples; None for those themselves. `slices` is the
    quality by task, such as intent, with its interval.
    """

    temperature: float
    max_tokens: int
    quality: Score
    tokens: float
    tokens_interval: Interval
    cut: float
    cut_interval: Interval
    difference: Comparison | None = None
    slices: dict[str, Score] = {}


class Decoding(Struct, frozen=True):
    """All ways that were tried on one export, today's first, and which is recommended and why."""

    candidate: str
    metric: str
    split: str
    examples: int
    rows: tuple[Decoded, ...]
    advised: int
    reason: str


def tune_decoding(
    start: Path,
    progress: Progress,
    *,
    export: str = "",
    temperatures: Sequence[float] = TEMPERATURES,
    lengths: Sequence[int] = LENGTHS,
    examples: int = EXAMPLES,
    changes: Iterable[str] = (),
) -> Decoding:
    """Answer the project's validation conversations in each way; what was answered before is not asked again.

    Temperatures are tried at today's length and lengths at today's temperature.
    """
    with open_project(start, progress, changes=changes) as project:
        dataset = next(iter(project.store.artifacts("data")), None)
        if dataset is None:
            raise DataError("There are no conversations to answer.", "Run `vivace data` first.")
        found = own_exports(project)
        kind = export or next(iter(found), "")
        if kind not in found:
            raise ConfigError(f"There is no export {kind!r}.", f"There are: {', '.join(found) or 'none'}.")
        today = (project.settings.evaluate.temperature, project.settings.evaluate.max_tokens)
        ways = [today, *((each, today[1]) for each in temperatures), *((today[0], each) for each in lengths)]
        metric = project.settings.release.quality_metric
        item = stages.candidate(project, kind, found[kind])
        reports = []
        ways = list(dict.fromkeys(ways))
        with progress.task("Trying ways to decode", total=len(ways)) as bar:
            for temperature, length in ways:
                bar.note(f"temperature {temperature:g}, at most {length} tokens")
                other = _with(project, temperature, length, examples)
                reports.append(stages.evaluate(other, item, dataset, "validation").artifact)
                bar.advance()
        rows = _rows(project, ways, reports, metric)
        advised, reason = advise(rows, project.settings.release.max_degradation)
        return Decoding(kind, metric, "validation", rows[0].quality.count, rows, advised, reason)


def advise(rows: Sequence[Decoded], margin: float) -> tuple[int, str]:
    """Return which row to take: one that is better beyond chance, else a cheaper one that is surely not much worse.

    `margin` is how much quality a cheaper way may lose, as a share of today's.
    """
    today = rows[0]
    better = [
        place for place, row in enumerate(rows) if row.difference is not None and row.difference.outcome == "better"
    ]
    if better:
        best = max(better, key=lambda place: rows[place].quality.value)
        return best, "Its answers are better than today's, beyond chance."
    allowed = -margin * today.quality.value
    cheaper = [
        place
        for place, row in enumerate(rows)
        if row.difference is not None
        and row.difference.outcome != "worse"
        and row.difference.interval.low > allowed
        and row.tokens_interval.high < today.tokens_interval.low
    ]
    if cheaper:
        best = min(cheaper, key=lambda place: rows[place].tokens)
        return best, f"Its answers are shorter, and at most {margin:.0%} worse than today's."
    return 0, "Nothing is better than today's settings beyond chance, or surely as good and shorter."


def _with(project: Project, temperature: float, max_tokens: int, examples: int) -> Project:
    chosen = project.settings.evaluate.model_copy(
        update={"temperature": temperature, "max_tokens": max_tokens, "max_examples": examples}
    )
    settings = project.settings.model_copy(update={"evaluate": chosen})
    return Project(project.config, settings, project.store, project.progress)


def _rows(
    project: Project, ways: Sequence[tuple[float, int]], reports: Sequence[Artifact], metric: str
) -> tuple[Decoded, ...]:
    from vivace.evaluate import compare, family

    compared = [
        next(each for each in compare(report.path, reports[0].path, project.settings.evaluate) if each.metric == metric)
        for report in reports[1:]
    ]
    differences = [None, *(family(compared) if compared else [])]
    return tuple(
        _row(way, report, metric, difference)
        for way, report, difference in zip(ways, reports, differences, strict=True)
    )


def _row(way: tuple[float, int], report: Artifact, metric: str, difference: Comparison | None) -> Decoded:
    from vivace.evaluate import Answer, Slice

    scores = msgspec.json.decode((report.path / "scores.json").read_bytes(), type=list[Score])
    lines = (report.path / "answers.jsonl").read_bytes().splitlines()
    answers = [answer for answer in (msgspec.json.decode(line, type=Answer) for line in lines) if not answer.failed]
    if not answers:
        raise DataError("No question could be answered.", "Look at the evaluation's report.")
    tokens = [answer.completion_tokens for answer in answers]
    cut = sum(answer.finish_reason == "length" for answer in answers)
    slices = msgspec.json.decode((report.path / "slices.json").read_bytes(), type=list[Slice])
    return Decoded(
        way[0],
        way[1],
        next(score for score in scores if score.metric == metric),
        sum(tokens) / len(tokens),
        bootstrap_mean(tokens),
        cut / len(answers),
        proportion_interval(cut, len(answers)),
        difference,
        {f"{each.field} {each.value}": score for each in slices for score in each.scores if score.metric == metric},
    )
