"""What tuning made the model forget: the base, the tuned model and its exports on questions besides the domain."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from vivace.config.general import GeneralSettings
from vivace.domain import Candidate, Progress, Reason, Workspace
from vivace.evaluate.answers import Answer
from vivace.evaluate.general import choices
from vivace.evaluate.general.forgetting import Change, Results, changes, of_choices, reasons, tell
from vivace.evaluate.general.tasks import LocalTask, find_tasks
from vivace.evaluate.metric import METRICS, Metric
from vivace.evaluate.report import load_report
from vivace.loop.compress.measure import probe
from vivace.loop.project import Project, open_project, table
from vivace.store.artifacts import Outcome
from vivace.store.files import sha256_file, write_atomic

RESULTS = "results.json"
REPORT = "general.json"
PROBE = "general answers"
_CHOSEN = "choices.jsonl"


class Measured(Struct, frozen=True):
    """What one stage found of one model; `missing` says what could not be measured, and why."""

    results: tuple[Results, ...]
    missing: dict[str, str] = {}


class General(Struct, frozen=True):
    """Every candidate against the base; `reasons` are there where [evaluate.general] sets max_forgetting."""

    base: str
    changes: tuple[Change, ...]
    sentences: tuple[str, ...]
    missing: dict[str, str]
    reasons: dict[str, tuple[Reason, ...]] = {}
    report: str = ""

    @property
    def forgets(self) -> tuple[str, ...]:
        """The candidates that are shown to have forgotten something."""
        return tuple(dict.fromkeys(each.model for each in self.changes if each.outcome == "forgot"))


def evaluate_general(start: Path, progress: Progress, *, changes: Iterable[str] = ()) -> General:
    """Measure base and candidates besides the domain, compare them in pairs, and write `general.json`.

    What is not there yet is trained and exported first.
    """
    from vivace.loop.run import run

    with open_project(start, progress, changes=changes) as project:
        wanted = project.settings.evaluate.general
        find_tasks(wanted.tasks, project.root)  # what is wrong with them is said before anything is trained
        candidates = run(project, "compress").candidates
        found = compare_general(project, candidates, wanted)
        target = project.root / REPORT
        found = structs.replace(found, report=str(target))
        write_atomic(target, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        return found


def forgetting_findings(project: Project, items: Sequence[Candidate]) -> dict[str, tuple[Reason, ...]]:
    """Return the reasons for the gate by candidate; none where [evaluate.general] sets no max_forgetting."""
    wanted = project.settings.evaluate.general
    return {} if wanted.max_forgetting is None else compare_general(project, items, wanted).reasons


def compare_general(project: Project, items: Sequence[Candidate], wanted: GeneralSettings) -> General:
    """Compare all candidates with the first, the base."""
    settings = project.settings.evaluate
    tasks = find_tasks(wanted.tasks, project.root)
    measured = {item.name: measure_general(project, item, tasks, wanted) for item in items}
    base, *others = items
    found: list[Change] = []
    for item in others:
        found += changes(
            measured[base.name].results,
            measured[item.name].results,
            (base.name, item.name),
            level=settings.confidence,
            resamples=settings.resamples,
            seed=settings.seed,
        )
    gates: dict[str, tuple[Reason, ...]] = {}
    if wanted.max_forgetting is not None:
        own = {item.name: [each for each in found if each.model == item.name] for item in others}
        gates = {name: tuple(reasons(part, wanted.max_forgetting)) for name, part in own.items()}
    missing = {f"{name}, {what}": why for name, each in measured.items() for what, why in each.missing.items()}
    return General(base.name, tuple(found), tuple(tell(found)), missing, gates)


def measure_general(project: Project, item: Candidate, tasks: Sequence[LocalTask], wanted: GeneralSettings) -> Measured:
    """Return everything that is measured of one model; finished parts are kept."""
    asked = _read(_choices(project, item))
    answered = _answered(load_report(probe(project, item).artifact.path).answers)
    parts = [asked, answered, *(_read(_task(project, item, task, wanted)) for task in tasks)]
    missing = {what: why for part in parts for what, why in part.missing.items()}
    return Measured(tuple(each for part in parts for each in part.results), missing)


def _answered(answers: Sequence[Answer]) -> Measured:
    """Return what the sixty written answers come to: words in common with the reference, and how likely it is."""
    metric: Metric = METRICS.load("token_f1")
    ids = tuple(each.id for each in answers)
    rows = tuple((float(row[0]), float(row[1])) for row in metric.rows(answers))
    return Measured((Results(PROBE, "token F1", ids, rows),))


def _choices(project: Project, item: Candidate) -> Outcome:
    def work(workspace: Workspace) -> dict[str, Any]:
        async def ask() -> list[choices.Chosen]:
            from vivace.engines import open_engine

            threads = project.settings.serve.threads
            async with open_engine(item.engine, item.model, threads=threads, prefix_cache=False) as engine:
                journal = workspace.scratch / _CHOSEN
                return await choices.choose(engine, choices.questions(), journal, workspace.progress)

        found = Measured(tuple(of_choices(asyncio.run(ask()))))
        return _write(workspace, found)

    return project.store.run(
        "general",
        work,
        kind="report",
        settings={"engine": item.engine, "questions": sha256_file(choices.QUESTIONS)},
        parents={"model": item.model.artifact_id or project.digest(item.model.path)},
        progress=project.progress,
    )


def _task(project: Project, item: Candidate, task: LocalTask, wanted: GeneralSettings) -> Outcome:
    """Run one task of lm-eval; another file or another limit is another run."""
    at_once = project.settings.evaluate.concurrency

    def work(workspace: Workspace) -> dict[str, Any]:
        async def ask() -> Measured:
            from vivace.engines import open_engine
            from vivace.evaluate.general.harness import run_tasks

            threads = project.settings.serve.threads
            async with open_engine(item.engine, item.model, threads=threads, prefix_cache=False) as engine:
                bare = structs.replace(item, chain={})
                found, missing = await run_tasks(
                    engine, bare, [task], workspace.progress, at_once=at_once, limit=wanted.max_examples
                )
                return Measured(tuple(found), missing)

        return _write(workspace, asyncio.run(ask()))

    parents = {f"file {number}": project.digest(path) for number, path in enumerate(task.files)}
    parents["model"] = item.model.artifact_id or project.digest(item.model.path)
    return project.store.run(
        "lm_eval",
        work,
        kind="report",
        settings={"engine": item.engine, "task": task.name, "limit": wanted.max_examples} | table(wanted),
        parents=parents,
        progress=project.progress,
    )


def _write(workspace: Workspace, found: Measured) -> dict[str, Any]:
    write_atomic(workspace.out / RESULTS, msgspec.json.format(msgspec.json.encode(found), indent=1))
    return {f"{each.task}, {each.metric}": each.value for each in found.results}


def _read(made: Outcome) -> Measured:
    return msgspec.json.decode((made.artifact.path / RESULTS).read_bytes(), type=Measured)
