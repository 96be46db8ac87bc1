"""Answer the test examples with a candidate and say how right the answers are, each figure with its interval."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import msgspec

from vivace import __version__
from vivace.chain import stack
from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Candidate, Example, Score, Workspace
from vivace.engines import open_engine
from vivace.errors import DataError
from vivace.evaluate.answering import answer_examples, finished_groups, group_key, grouped
from vivace.evaluate.answers import Answer, is_scorable
from vivace.evaluate.graders import Brought, Examiner, Graded, Opened
from vivace.evaluate.metric import METRICS, Metric, per_example
from vivace.evaluate.report import EvaluationReport, Facts, write_report
from vivace.evaluate.slices import slice_scores
from vivace.stats import detectable_difference, standard_error

NOTHING = Brought()
_FEWEST = 2


def evaluate(
    candidate: Candidate,
    examples: Sequence[Example],
    settings: EvaluateSettings,
    workspace: Workspace,
    *,
    threads: int | None = None,
    brought: Brought = NOTHING,
    graders: Opened | None = None,
) -> dict[str, Any]:
    """Evaluate a candidate and write `answers.jsonl`, `scores.json`, `slices.json`, `facts.json` and `report.md`.

    `brought` are the project's own graders and functions, `graders` opens the models that grade. Raises `ConfigError`
    for what could never be graded, `DataError` when there are too few examples for an interval, `EngineError` when the
    engine died: started again with the same workspace it continues after the last finished group.
    """

    def opened() -> AbstractAsyncContextManager[Any]:
        # Without the prefix cache: what an earlier group left there would change the last bits of later answers, and
        # an interrupted run would not give what an uninterrupted one gives.
        return open_engine(candidate.engine, candidate.model, threads=threads, prefix_cache=False)

    return evaluate_on(opened, candidate, examples, settings, workspace, brought, graders)


def evaluate_on(
    opened: Callable[[], AbstractAsyncContextManager[Any]],
    candidate: Candidate,
    examples: Sequence[Example],
    settings: EvaluateSettings,
    workspace: Workspace,
    brought: Brought = NOTHING,
    graders: Opened | None = None,
) -> dict[str, Any]:
    """Evaluate a candidate on the engine that `opened` opens; an engine with nothing left to do is not opened."""
    chosen, unscorable, left_out = choose(examples, settings)
    brought.check(chosen)
    journal = workspace.scratch / "groups.jsonl"
    groups = [(group_key(candidate, group, settings), group) for group in grouped(chosen, settings.concurrency)]
    done = finished_groups(journal)
    to_do = [(key, group) for key, group in groups if key not in done]
    if len(to_do) < len(groups):
        kept = len(chosen) - sum(len(group) for _, group in to_do)
        workspace.progress.say(f"{kept} of {len(chosen)} answers are kept from the interrupted run.")

    async def ask() -> dict[str, tuple[Answer, ...]]:
        async with opened() as engine:
            layers = partial(stack, recipe=candidate.chain)
            return await answer_examples(engine, layers, to_do, settings, journal, workspace.progress)

    if to_do:
        done |= asyncio.run(ask())
    answers = [answer for key, _ in groups for answer in done[key]]
    examiner = Examiner(graders, workspace.scratch / "graders.jsonl", workspace.progress, settings.concurrency)
    graded = asyncio.run(brought.grade(answers, examiner))
    extra = brought.metrics(graded.answers)
    report = score(candidate, graded, settings, extra, unscorable=unscorable, left_out=left_out)
    write_report(report, workspace.out)
    return summary(report)


def choose(examples: Sequence[Example], settings: EvaluateSettings) -> tuple[list[Example], list[str], int]:
    """Return the examples to answer, the ids of those that cannot be scored, and how many more were left out.

    The choice depends on the ids alone, so every candidate is asked the same.
    """
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(f"Two test examples have the id {example.id!r}.", "Run `vivace data` again.")
        seen.add(example.id)
    scorable = [example for example in examples if is_scorable(example)]
    unscorable = sorted(seen - {example.id for example in scorable})
    if len(scorable) < _FEWEST:
        raise DataError(
            f"There are {len(scorable)} test examples with an answer to compare with; an interval needs two.",
            "Hold out more conversations ([data] test or test_fraction).",
        )
    scorable.sort(key=lambda example: hashlib.sha256(example.id.encode()).digest())
    chosen = scorable[: settings.max_examples]
    return chosen, unscorable, len(scorable) - len(chosen)


def score(
    candidate: Candidate,
    answers: Sequence[Answer] | Graded,
    settings: EvaluateSettings,
    extra: Sequence[Metric] = (),
    *,
    unscorable: Sequence[str] = (),
    left_out: int = 0,
) -> EvaluationReport:
    """Return the report of answers: every metric that can be computed, `extra` ones too, and why others cannot."""
    graded = answers if isinstance(answers, Graded) else Graded(tuple(answers), {}, {})
    ordered = sorted(graded.answers, key=lambda each: each.id)
    values: dict[str, dict[str, float]] = {each.id: dict(each.scores) for each in ordered}
    scores, signatures, missing = [], {}, {}
    for metric in (*map(METRICS.load, METRICS.names()), *extra):
        name = metric.name
        usable = metric.scored(ordered)
        if len(usable) < _FEWEST:
            missing[name] = graded.missing.get(name) or metric.why_missing(ordered)
            continue
        rows = metric.rows(usable)
        scores.append(metric.score(rows, level=settings.confidence, resamples=settings.resamples, seed=settings.seed))
        signatures[name] = metric.signature()
        if metric.per_example:
            for each, value in zip(usable, per_example(metric, rows), strict=True):
                values[each.id][name] = value
    scored = tuple(msgspec.structs.replace(each, scores=values[each.id]) for each in ordered)
    facts = Facts(
        candidate=candidate.name,
        role=candidate.role,
        engine=candidate.engine,
        model=candidate.model.name,
        weights=candidate.model.weights,
        artifact_id=candidate.model.artifact_id,
        chain=candidate.chain,
        settings=settings.model_dump(mode="json"),
        examples=len(scored),
        left_out=left_out,
        unscorable=tuple(unscorable),
        failed={each.id: each.error for each in scored if each.error},
        without_likelihood={each.id: each.likelihood_error for each in scored if each.likelihood_error},
        missing_metrics=missing,
        notes=graded.notes,
        signatures=signatures,
        detectable={each.metric: _detectable(each) for each in scores},
        version=__version__,
    )
    return EvaluationReport(facts, tuple(scores), scored, slice_scores(scored, settings))


def summary(report: EvaluationReport) -> dict[str, Any]:
    """Return what the stage tells about itself."""
    facts = report.facts
    return {
        "candidate": facts.candidate,
        "examples": facts.examples,
        "failed": len(facts.failed),
        "unscorable": list(facts.unscorable),
        "left_out": facts.left_out,
        "scores": {each.metric: each.value for each in report.scores},
        "missing_metrics": facts.missing_metrics,
        "signatures": facts.signatures,
        "detectable": facts.detectable,
    }


def _detectable(score: Score) -> float:
    """Return the smallest difference to an unrelated system of equal spread that would be seen."""
    return detectable_difference(2**0.5 * standard_error(score.interval), level=score.interval.level)
