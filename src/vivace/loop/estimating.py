"""What training will take, told without doing it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vivace.config.train import TrainSettings
from vivace.domain import Model, Progress
from vivace.loop.project import Project, open_project
from vivace.store.artifacts import environment

SAME = ("machine", "cores", "system", "torch")
"""Earlier runs in other surroundings tell nothing about the speed of the next."""


def estimate_training(start: Path, progress: Progress, *, changes: Iterable[str] = ()) -> dict[str, Any]:
    """Make the dataset if need be and return what `vivace train` would take; nothing is loaded or trained."""
    from vivace.loop import stages
    from vivace.loop.run import run
    from vivace.train.tune import expect

    with open_project(start, progress, changes=changes) as project:
        dataset = run(project, "data").dataset
        assert dataset is not None
        base = stages.base_model(project)
        settings, system = project.settings.train, project.settings.project.system
        rates = earlier_rates(project, base, settings)
        found = expect(dataset.path / "examples.jsonl", base, system, settings, progress, rates)
    more = _not_counted(settings)
    sentence = f"{found.sentence} {more}".strip()
    return {"sentence": sentence, **found.told(), "memory_free_bytes": found.memory_free_bytes, "fits": found.fits}


def earlier_rates(project: Project, base: Model, settings: TrainSettings) -> list[float]:
    """Return the operations per second of the project's earlier runs on this base and machine, the newest first."""
    from vivace.train import machine
    from vivace.train.estimates.estimate import rates_of

    here, digest = environment(), project.digest(base.path)
    alike = [
        run.facts
        for run in project.store.artifacts("train")
        if run.facts.get("base") == digest and all(run.origin.environment.get(name) == here.get(name) for name in SAME)
    ]
    device = machine.device()
    dtype = machine.arithmetic(settings.dtype, device)
    return rates_of(alike, device=device, dtype=dtype, method=settings.method, workers=settings.workers)


def _not_counted(settings: TrainSettings) -> str:
    """Say what comes before or after training and is not in the estimate."""
    parts = []
    if settings.search.method != "none":
        parts.append("the search for settings before it")
    if settings.preference.method != "none":
        parts.append("learning from preferences after it")
    return f"Not counted: {' and '.join(parts)}." if parts else ""
