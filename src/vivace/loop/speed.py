"""The stage `bench`: candidates that fit, as they will be served, side by side."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from vivace.domain import Artifact, Candidate, Speed, Workspace
from vivace.errors import ResourceError
from vivace.loop.limits import unfit_candidates
from vivace.loop.project import Project, table
from vivace.loop.tuned import tuned_for
from vivace.store import read_examples
from vivace.store.artifacts import Outcome


def bench(project: Project, items: Sequence[Candidate], dataset: Artifact) -> Outcome:
    """Measure the candidates side by side; what does not fit this project's limits is told, and not opened.

    The baseline is for comparison and is never released, so the limits of a release are not for it.
    """
    from vivace.bench.traffic.arrivals import located

    settings = located(project.settings.bench, project.root)
    refused = unfit_candidates(project, [item for item in items if item.role != "baseline"])
    for told in refused.values():
        project.progress.say(told)
    fitting = [item for item in items if item.name not in refused]
    if not fitting:
        told = " ".join(refused.values()) or "there is none."
        raise ResourceError(f"No candidate can be measured: {told}", "See max_size_mb and max_memory_mb in [release].")
    opened = {item.name: found for item in fitting if (found := opening(project, item))}

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.bench import bench as measure

        examples = list(read_examples(dataset.path / "examples.jsonl", "test"))
        threads = project.settings.serve.threads
        return asyncio.run(measure(fitting, examples, settings, workspace, threads=threads, opened_with=opened))

    parents = {"dataset": dataset.id}
    parents |= {item.name: item.model.artifact_id or project.digest(item.model.path) for item in fitting}
    if settings.trace:
        parents["trace"] = project.digest(Path(settings.trace))
    return project.store.run(
        "bench",
        work,
        kind="report",
        settings=table(project.settings.bench)
        | {"chain": project.chain, "names": [item.name for item in fitting]}
        | ({"opened_with": opened} if opened else {}),
        parents=parents,
        progress=project.progress,
    )


def opening(project: Project, item: Candidate) -> dict[str, Any]:
    """Return how a candidate's engine is best opened on this machine; empty where nothing better is known."""
    if not project.settings.engines.tuned:
        return {}
    found = tuned_for(project.store.root, item.model.artifact_id)
    return found.opening if found is not None else {}


def read_speeds(report: Artifact) -> dict[str, Speed]:
    """Return what the bench measured, by candidate."""
    return msgspec.json.decode((report.path / "speed.json").read_bytes(), type=dict[str, Speed])
