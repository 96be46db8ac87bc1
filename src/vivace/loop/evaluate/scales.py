"""The same work on several sizes of model: measured side by side, a curve through them, a recommendation."""

import asyncio
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, structs

from vivace.domain import Artifact, Candidate, Progress, Score, Workspace
from vivace.errors import DataError, VivaceError
from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import METRICS, Metric, stored_metric
from vivace.evaluate.report import load_report
from vivace.evaluate.scales.recommend import Advice, Resources, Wishes, recommend
from vivace.evaluate.scales.saturation import Measure, Saturation, saturation
from vivace.loop import stages
from vivace.loop.evaluate.naming import grading_models
from vivace.loop.evaluate.scales_models import Sized, find_sizes
from vivace.loop.project import Project, open_project
from vivace.stats import Floats, bootstrap_rows, mean_of_rows, quantile_interval
from vivace.store import read_examples
from vivace.store.artifacts import Outcome
from vivace.store.files import read_journal, write_atomic

SPEEDS = "speeds.json"
REPORT = "scales.json"


class Times(Struct, frozen=True):
    """How long a model takes, measured beside the others: medians one at a time, rates with eight at once."""

    name: str
    ttft_ms: Score
    tpot_ms: Score
    tokens_per_s: Score
    answer_s: Score
    machine_s: float
    prompt_tokens: float
    peak_memory_bytes: int
    foreign_cpu_fraction: float


class Row(Struct, frozen=True):
    """One model; `cost` is that of 1,000 answers, None without a price, `tokens` those of a median reference."""

    name: str
    family: str
    parameters: int | None
    weights: str
    engine: str
    size_bytes: int
    quality: Score
    bits: Score | None
    times: Times
    cost: float | None
    tokens: float


class Scales(Struct, frozen=True):
    """Everything that was found; `left_out` says why models were not measured."""

    rows: tuple[Row, ...]
    curves: tuple[tuple[str, Saturation], ...]
    advice: Advice | None
    left_out: dict[str, str]
    metric: str
    questions: int
    task: str
    page: str = ""
    worked: tuple[str, ...] = ()


def compare_scales(start: Path, progress: Progress, *, changes: Iterable[str] = ()) -> Scales:
    """Compare the sizes that [evaluate.scales] names on the project's test questions; write the page and the JSON."""
    from vivace.loop.evaluate.scales_page import write_page

    with open_project(start, progress, changes=changes) as project:
        project = narrowed(project)
        found = _compare(project)
        page = write_page(project.root, found, project.settings.evaluate.scales)
        found = structs.replace(found, page=str(page))
        write_atomic(project.root / REPORT, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        return found


def narrowed(project: Project) -> Project:
    """Return the project with as many test questions as [evaluate.scales] asks."""
    settings = project.settings
    wanted = settings.evaluate.scales.max_examples
    if wanted is None:
        return project
    evaluate = settings.evaluate.model_copy(update={"max_examples": wanted})
    changed = settings.model_copy(update={"evaluate": evaluate})
    return Project(project.config, changed, project.store, project.progress)


def _compare(project: Project) -> Scales:
    from vivace.loop.run import run, tuned

    worked: list[str] = []
    merged = None
    if project.settings.evaluate.scales.layers:
        merged, dataset, note = tuned(project)
    else:
        made = run(project, "data").dataset
        assert made is not None
        dataset = made

        def note(name: str, reused: bool) -> None:
            if not reused:
                worked.append(name)

    sizes = find_sizes(project, dataset, note, merged)
    graders = grading_models(project, lambda: run(project, "compress").candidates)
    reports: dict[str, Artifact] = {}
    for place, each in enumerate(sizes):
        if each.candidate is None:
            continue
        try:
            reports[each.name] = stages.evaluate(project, each.candidate, dataset, graders=graders).artifact
        except DataError:
            raise
        except VivaceError as error:
            sizes[place] = structs.replace(each, candidate=None, left_out=str(error))
    left_out = {each.name: each.left_out for each in sizes if each.left_out}
    ready = [each for each in sizes if each.candidate is not None]
    if not ready:
        told = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise DataError(f"No model of [evaluate.scales] could be measured. {told}")
    timed = _timed(project, dataset, ready, reports)
    if not timed.reused:
        worked.append("scales")
    times = msgspec.json.decode((timed.artifact.path / SPEEDS).read_bytes(), type=list[Times])
    answers = _shared_answers(project, {name: load_report(report.path).answers for name, report in reports.items()})
    found = judge(project, ready, times, answers)
    return structs.replace(found, left_out=left_out, worked=tuple(worked))


def _shared_answers(project: Project, found: dict[str, tuple[Answer, ...]]) -> dict[str, list[Answer]]:
    """Return the answers of each model to the questions of the task, in the same order."""
    task = project.settings.evaluate.scales.task
    label = project.settings.data.label.intent_field
    chosen = {
        name: [each for each in answers if not task or task in (each.metadata.get(label), each.metadata.get("intent"))]
        for name, answers in found.items()
    }
    count = len(next(iter(chosen.values())))
    if count < 2:
        every = next(iter(found.values()))
        known = sorted({str(each.metadata[key]) for each in every for key in (label, "intent") if key in each.metadata})
        raise DataError(
            f"{count} of the {len(every)} test questions have the intent {task!r}; an interval needs two.",
            f"Intents of the test questions: {', '.join(known)}." if known else "The test questions name no intents.",
        )
    return chosen


def judge(project: Project, sizes: Sequence[Sized], times: Sequence[Times], answers: dict[str, list[Answer]]) -> Scales:
    """Return rows, curves and advice from what was measured; nothing is asked of a model here."""
    settings, wanted = project.settings.evaluate, project.settings.evaluate.scales
    metric = quality_metric(project)
    answers = scorable(metric, answers)
    options: dict[str, Any] = {
        "level": settings.confidence, "resamples": settings.resamples, "seed": settings.seed,
    }  # fmt: skip
    quality = np.stack([metric.rows(answers[each.name]) for each in sizes])
    bits = _bits([answers[each.name] for each in sizes])
    measure = Measure(
        metric.name, metric.aggregate, metric.higher_is_better, 100.0 if metric.unit else 1.0, wanted.min_gain
    )
    rows = []
    for place, (each, timed) in enumerate(zip(sizes, times, strict=True)):
        assert each.candidate is not None
        scored = metric.score(quality[place], **options)
        likely = None if bits is None else _bits_score(bits[place], options)
        tokens = reference_tokens(answers[each.name])
        rows.append(
            Row(
                each.name, each.family, each.parameters, each.candidate.model.weights, each.candidate.engine,
                _size_on_disk(project, each), scored, likely, timed,
                _cost(project, each.name, timed, tokens), tokens,
            )
        )  # fmt: skip
    curves = tuple(_curves(rows, quality, bits, measure, options))
    wishes = Wishes(
        wanted.task, wanted.quality, wanted.margin, wanted.max_disk_mb, wanted.max_memory_mb, wanted.max_latency_ms,
        wanted.max_cost,
    )  # fmt: skip
    resources = [
        Resources(
            row.name, row.size_bytes / 1e6, row.times.peak_memory_bytes / 1e6, 1e3 * row.times.answer_s.value, row.cost
        )
        for row in rows
    ]
    advice = recommend(resources, quality, measure, wishes, **options)
    return Scales(tuple(rows), curves, advice, {}, metric.name, quality.shape[1], wanted.task)


def quality_metric(project: Project) -> Metric:
    """Return the metric that a release is judged by, built in or the project's own."""
    name = project.settings.release.quality_metric
    return METRICS.load(name) if name in METRICS.names() else stored_metric(name)


def scorable(metric: Metric, found: dict[str, list[Answer]]) -> dict[str, list[Answer]]:
    """Return the answers to the questions where the metric is known of every model; raises `DataError` under two."""
    known = set.intersection(*({each.id for each in metric.scored(answers)} for answers in found.values()))
    if len(known) < 2:
        told = next(metric.why_missing(answers) for answers in found.values())
        raise DataError(
            f"{metric.name} is not known of the answers: {told}",
            "Take another quality_metric in [release]; `vivace evaluate` says why a metric is missing.",
        )
    return {name: [each for each in answers if each.id in known] for name, answers in found.items()}


def _curves(
    rows: Sequence[Row], quality: Floats, bits: Floats | None, measure: Measure, options: dict[str, Any]
) -> list[tuple[str, Saturation]]:
    """Return what size, time and cost bring, for each family by itself: sizes of one kind lie on one curve."""
    found = []
    likely = Measure("bits_per_byte", mean_of_rows, False, 0.0, measure.least)
    for family in dict.fromkeys(row.family for row in rows):
        for axis in ("parameters", "seconds per answer", "cost of 1,000 answers"):
            places = [n for n, row in enumerate(rows) if row.family == family and _size(row, axis)]
            if len(places) < 2:
                continue
            names = [rows[place].name for place in places]
            sizes = np.array([_size(rows[place], axis) for place in places], dtype=np.float64)
            found.append((family, saturation(axis, names, sizes, quality[places], measure, **options)))
            if bits is not None and axis == "parameters":
                found.append((family, saturation(axis, names, sizes, bits[places], likely, **options)))
    return found


def _size(row: Row, axis: str) -> float | None:
    if axis == "parameters":
        return None if row.parameters is None else float(row.parameters)
    return row.times.answer_s.value if axis == "seconds per answer" else row.cost


def _bits(answers: Sequence[list[Answer]]) -> Floats | None:
    """Return rows (bits, bytes) of the references that every model could tell the likelihood of."""
    known = [place for place in range(len(answers[0])) if all(each[place].logprob is not None for each in answers)]
    if len(known) < 2:
        return None
    return np.array(
        [[(-(a[p].logprob or 0.0) / math.log(2), len(a[p].reference.encode())) for p in known] for a in answers]
    )


def _bits_score(rows: Floats, options: dict[str, Any]) -> Score:
    value = float(mean_of_rows(rows.sum(axis=0)[None])[0])
    return Score("bits_per_byte", value, bootstrap_rows(rows, mean_of_rows, **options), len(rows), "bits", False)


def reference_tokens(answers: Sequence[Answer]) -> float:
    """Return the tokens of a median reference, as this model cuts it; where it cannot tell, of a median answer."""
    counts = [each.token_count for each in answers if each.token_count] or [each.completion_tokens for each in answers]
    return float(np.median(counts)) if counts else 0.0


def _size_on_disk(project: Project, each: Sized) -> int:
    """Return how much of this machine's disk a model takes: nothing of a provider's."""
    assert each.candidate is not None
    return 0 if each.family == "providers" else stages.size_of(project, each.candidate.model)


def _cost(project: Project, name: str, times: Times, tokens: float) -> float | None:
    wanted = project.settings.evaluate.scales
    price = wanted.price_per_million_tokens.get(name)
    if price is not None:
        return 1e3 * price * (times.prompt_tokens + tokens) / 1e6
    provider = project.settings.models.providers.get(name)
    if provider is not None:
        read, written = provider.price_per_million_input_tokens, provider.price_per_million_output_tokens
        if read is None or written is None:
            return None
        return 1e3 * (read * times.prompt_tokens + written * tokens) / 1e6
    return None if wanted.price_per_hour is None else 1e3 * wanted.price_per_hour * times.machine_s / 3600


def _timed(project: Project, dataset: Artifact, sizes: Sequence[Sized], reports: dict[str, Artifact]) -> Outcome:
    """Measure all side by side; the outcome is one report."""
    items = [each.candidate for each in sizes if each.candidate is not None]
    threads = project.settings.serve.threads

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.bench.pace import Times as Round
        from vivace.bench.pace import paces

        asked = list(read_examples(dataset.path / "examples.jsonl", "test"))[: project.settings.evaluate.max_examples]
        asyncio.run(paces(items, asked, workspace.scratch, workspace.progress, threads=threads))
        rounds = [msgspec.json.decode(line, type=Round) for line in read_journal(workspace.scratch / "paces.jsonl")]
        found = [times_of(item, rounds, load_report(reports[item.name].path).answers) for item in items]
        write_atomic(workspace.out / SPEEDS, msgspec.json.format(msgspec.json.encode(found), indent=1))
        return {"models": [item.name for item in items]}

    parents = {"dataset": dataset.id} | {f"model {item.name}": _digest(project, item) for item in items}
    parents |= {f"answers {item.name}": reports[item.name].id for item in items}
    return project.store.run(
        "scales",
        work,
        kind="report",
        settings={"models": [[item.name, item.engine] for item in items], "chain": project.chain, "threads": threads},
        parents=parents,
        progress=project.progress,
    )


def times_of(item: Candidate, rounds: Sequence[Any], answers: Sequence[Answer]) -> Times:
    """Return a model's times, each with its interval, from the rounds that `vivace.bench.pace` kept."""
    from vivace.bench.pace import AT_ONCE

    own = [each for each in rounds if each.name == item.name]
    alone = [sample for each in own if each.at_once == 1 for sample in each.samples]
    crowd = [each for each in own if each.at_once == AT_ONCE]
    tokens = reference_tokens(answers)
    rates = [sum(sample.completion_tokens for sample in each.samples) / each.seconds for each in crowd]
    firsts = [sample.ttft_ms or 0.0 for sample in alone]
    nexts = [sample.tpot_ms or 0.0 for sample in alone]
    whole = [(first + max(0.0, tokens - 1) * each) / 1e3 for first, each in zip(firsts, nexts, strict=True)]
    # A second of the machine is shared by all that are in work: an answer's part, as long as a reference.
    fixed = float(np.mean([sample.completion_tokens for each in crowd for sample in each.samples]))
    machine_s = sum(each.seconds for each in crowd) / sum(len(each.samples) for each in crowd)
    read_s = min(machine_s, float(np.median(firsts)) / 1e3)
    return Times(
        item.name,
        _median("ttft", firsts, "ms"),
        _median("tpot", nexts, "ms"),
        _median("tokens_per_s", rates, "tokens/s", higher=True),
        _median("answer", whole, "s"),
        read_s + (machine_s - read_s) * max(1.0, tokens) / fixed,
        float(np.mean([sample.prompt_tokens for each in own for sample in each.samples])),
        max(each.peak_memory_bytes for each in own),
        float(np.mean([each.foreign_cpu_fraction for each in own])),
    )


def _median(metric: str, values: Sequence[float], unit: str, *, higher: bool = False) -> Score:
    return Score(metric, float(np.median(values)), quantile_interval(values, 0.5), len(values), unit, higher)


def _digest(project: Project, item: Candidate) -> str:
    return item.model.artifact_id or project.digest(item.model.path)
