"""Speed in the loop: the candidates side by side, any server by its address, and the highest rate each can hold."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from pydantic import ValidationError

from vivace.bench.capacity import Capacity, Goal
from vivace.bench.server import Asked, ServerFindings, bench_server, find_server_rate
from vivace.bench.server.report import write, write_capacity
from vivace.bench.traffic.arrivals import located
from vivace.config.settings import BenchSettings
from vivace.domain import Artifact, Candidate, Example, Progress, Workspace
from vivace.errors import ConfigError
from vivace.loop import bench_page
from vivace.loop.project import Project, open_project, table
from vivace.store import read_examples

SCRATCH = ".work"


class Found(Struct, frozen=True):
    """What a command measured, and where its page is; `capacities` by model."""

    out: str
    page: str
    server: ServerFindings | None = None
    capacities: dict[str, Capacity] = {}


def bench_address(
    start: Path,
    progress: Progress,
    asked: Asked,
    wanted: Mapping[str, Any],
    *,
    goal: Goal | None = None,
    out: Path | None = None,
    changes: Iterable[str] = (),
) -> Found:
    """Measure the server that `asked` names, or with a `goal` search its highest rate; a project is of use, not needed.

    `wanted` are values of the table [bench]. The files go to `out`, a folder named after the server.
    """
    settings, examples, system = _surroundings(start, progress, asked, wanted, list(changes))
    out = out or Path(f"bench-{re.sub(r'[^A-Za-z0-9.-]+', '-', urlsplit(asked.url).netloc) or 'server'}")
    scratch = out / SCRATCH
    if goal is not None:
        goal = _leveled(goal, settings)
        model, capacity = asyncio.run(
            find_server_rate(asked, settings, goal, scratch, progress, examples=examples, system=system)
        )
        write_capacity(model, capacity, out)
        found = Found(str(out), "", capacities={model: capacity})
    else:
        server = asyncio.run(bench_server(asked, settings, scratch, progress, examples=examples, system=system))
        write(server, settings, out)
        found = Found(str(out), "", server=server)
    if scratch.is_dir() and not any(scratch.iterdir()):
        scratch.rmdir()
    page = bench_page.write_server_page(out / bench_page.NAME, found.server, found.capacities)
    return msgspec.structs.replace(found, page=str(page))


def _surroundings(
    start: Path, progress: Progress, asked: Asked, wanted: Mapping[str, Any], changes: list[str]
) -> tuple[BenchSettings, list[Example], str]:
    """Return the settings of [bench] with what is wanted laid over them, the test examples and the system prompt."""
    has_project = any((folder / "vivace.toml").is_file() for folder in (start.resolve(), *start.resolve().parents))
    if not has_project and not start.is_file():
        if changes:
            raise ConfigError(f"--set {changes[0]} is for a project, and there is none in {start.resolve()}.")
        return located(_laid_over(BenchSettings(), wanted), Path()), [], ""
    with open_project(start, progress, changes=changes) as project:
        from vivace.loop.run import run

        settings = located(_laid_over(project.settings.bench, wanted), Path() if wanted.get("trace") else project.root)
        if asked.prompts:
            return settings, [], ""
        dataset = run(project, "data").dataset
        assert dataset is not None
        return settings, _tests(dataset), project.settings.project.system


def _laid_over(settings: BenchSettings, wanted: Mapping[str, Any]) -> BenchSettings:
    given = {name: value for name, value in wanted.items() if value is not None}
    try:
        return BenchSettings(**(settings.model_dump() | given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "-".join(str(part) for part in first["loc"]).replace("_", "-")
        message = f"--{name} is {first['input']!r}: {first['msg'][:1].lower()}{first['msg'][1:]}."
    raise ConfigError(message)


def _leveled(goal: Goal, settings: BenchSettings) -> Goal:
    """Return the goal with the service level of [bench] where it names none."""
    return goal if goal.service_level else msgspec.structs.replace(goal, service_level=settings.service_level)


def find_rates(
    start: Path,
    progress: Progress,
    goal: Goal,
    *,
    wanted: Mapping[str, Any] | None = None,
    names: Iterable[str] = (),
    changes: Iterable[str] = (),
) -> Found:
    """Search the highest rate of every candidate of the project, or of those named; what was found is kept."""
    from vivace.loop.run import run

    with open_project(start, progress, changes=changes) as project:
        settings = located(_laid_over(project.settings.bench, wanted or {}), project.root)
        goal = _leveled(goal, settings)
        result = run(project, "compress")
        assert result.dataset is not None
        known = {item.name: item for item in result.candidates[1:]}
        chosen = list(names) or list(known)
        if wrong := [name for name in chosen if name not in known]:
            raise ConfigError(f"There is no candidate {wrong[0]!r}.", f"There are: {', '.join(known)}.")
        capacities: dict[str, Capacity] = {}
        for name in chosen:
            progress.say(f"{name}:")
            capacities[name] = _capacity(project, known[name], settings, goal, result.dataset)
        page = bench_page.write_server_page(project.root / "capacity.html", None, capacities)
        return Found(str(project.root), str(page), capacities=capacities)


def _capacity(project: Project, item: Candidate, settings: BenchSettings, goal: Goal, dataset: Artifact) -> Capacity:
    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.bench.run import find_candidate_rate

        threads = project.settings.serve.threads
        capacity = asyncio.run(find_candidate_rate(item, _tests(dataset), settings, goal, workspace, threads=threads))
        write_capacity(item.name, capacity, workspace.out)
        return {"held_per_s": capacity.held, "missed_per_s": capacity.missed, "sentence": capacity.sentence}

    parents = {"dataset": dataset.id, "model": item.model.artifact_id or project.digest(item.model.path)}
    if settings.trace:
        parents["trace"] = project.digest(Path(settings.trace))
    made = project.store.run(
        "capacity",
        work,
        kind="report",
        settings=table(settings) | {"goal": msgspec.to_builtins(goal), "engine": item.engine, "chain": item.chain},
        parents=parents,
        progress=project.progress,
    )
    return msgspec.json.decode((made.artifact.path / "capacity.json").read_bytes(), type=Capacity)


def write_project_page(start: Path, report: Artifact) -> Path:
    """Write `bench.html` beside `vivace.toml` from the report of a bench."""
    from vivace.config import find_config

    return bench_page.write_project_page(find_config(start).parent / bench_page.NAME, report.path)


def _tests(dataset: Artifact) -> list[Example]:
    return list(read_examples(dataset.path / "examples.jsonl", "test"))
