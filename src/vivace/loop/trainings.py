"""Training runs of a project: list, find, compare, reproduce, note for MLflow."""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from vivace import __version__
from vivace.config.train import TrainSettings
from vivace.domain import Artifact, Model, Progress, SilentProgress, Workspace
from vivace.errors import ConfigError, StoreError
from vivace.loop import stages
from vivace.loop.project import Project, open_project
from vivace.loop.updating import forgetting_of
from vivace.store.artifacts import environment, is_whole
from vivace.store.files import folder_digest
from vivace.train import notes

STAGES = ("train", "distill", "align")
FIGURES = (
    "best_validation_loss", "best_validation_token_accuracy", "validation_loss_before", "steps", "tokens",
    "tokens_per_s", "peak_memory_bytes", "trainable_parameters", "flops_utilization", "cost",
)  # fmt: skip


def list_trainings(start: Path, progress: Progress | None = None) -> list[Artifact]:
    """Return the project's training runs, newest first, and note those that MLflow's file lacks."""
    with open_project(start, progress or SilentProgress(), lock=False) as project:
        found = _trainings(project)
        if missing_notes(project, found):
            try:
                with project.store.lock():
                    note_trainings(project)
            except StoreError:
                pass  # another command holds the project: it notes them itself, or the next list does
        return found


def find_training(start: Path, prefix: str = "") -> Artifact:
    """Return the training run whose id begins with `prefix`; empty: the newest.

    Where it is an update, its facts tell what was measured of `forgetting`.
    """
    with open_project(start, SilentProgress(), lock=False) as project:
        run = _find(project, prefix)
        found = forgetting_of(project, run)
    return msgspec.structs.replace(run, facts=run.facts | {"forgetting": found}) if found else run


def missing_notes(project: Project, runs: list[Artifact]) -> list[Artifact]:
    """Return the runs that are not in MLflow's file; none where MLflow is not installed."""
    if not notes.is_available():
        return []
    known = notes.noted_keys(project.store.root / notes.DATABASE)
    return [run for run in runs if run.origin.key not in known]


def note_trainings(project: Project) -> int:
    """Write what is missing into MLflow's file and return how many runs that were; a failure is said, not raised."""
    missing = missing_notes(project, _trainings(project))
    if not missing:
        return 0
    database = project.store.root / notes.DATABASE
    try:
        with project.progress.task("Noting the training for MLflow"):
            return notes.write_notes(database, map(notes.note_of, missing), project.settings.project.name)
    except StoreError as error:
        project.progress.say(str(error))
        return 0


def compare_trainings(start: Path, prefixes: list[str]) -> dict[str, Any]:
    """Return the settings, inputs and surroundings in which runs differ, and their figures side by side."""
    with open_project(start, SilentProgress(), lock=False) as project:
        runs = [_find(project, prefix) for prefix in prefixes]
    inputs = [{"inputs": " ".join(item[:12] for item in run.origin.parents)} for run in runs]
    around = [run.origin.environment | {"vivace": run.origin.code_version} for run in runs]
    figures = {name: [run.facts.get(name) for run in runs] for name in FIGURES}
    return {
        "runs": [run.short_id for run in runs],
        "settings": _differing([dict(notes.flat(run.origin.settings)) for run in runs]),
        "inputs": _differing(inputs),
        "environment": _differing(around),
        "last": {name: [_last(run, name) for run in runs] for name in notes.CURVES},
        "figures": {name: values for name, values in figures.items() if any(v is not None for v in values)}
        | {"seconds": [run.origin.seconds for run in runs]},
    }


def rerun(start: Path, prefix: str, progress: Progress, *, changes: Iterable[str] = ()) -> dict[str, Any]:
    """Train once more as a run was trained and tell whether the weights are the same, bit by bit.

    Raises `StoreError` when its dataset is gone or changed, `ConfigError` when its base or its settings are.
    """
    with open_project(start, progress, changes=changes) as project:
        run = _find(project, prefix)
        if run.origin.stage != "train":
            raise ConfigError(
                f"Run {run.short_id} is of the stage {run.origin.stage}; only runs of train can be made again.",
                "`vivace train list` shows the run it went on from.",
            )
        settings, system = _settings(run)
        dataset = _dataset(project, run)
        base = _base(project, run)
        origin = _start(project, run)
        folder = project.store.root / "work" / f"rerun-{run.origin.key[:24]}"
        workspace = Workspace(folder / "out", folder / "scratch", progress)
        shutil.rmtree(workspace.out, ignore_errors=True)
        for place in (workspace.out, workspace.scratch):
            place.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        facts = stages.tune_model(dataset, base, settings, system, workspace, origin)
        identity, _files = folder_digest(workspace.out)
        weights = notes.weights_digest(workspace.out)
        shutil.rmtree(folder)
    before = notes.weights_digest(run.path)
    now = environment() | {"vivace": __version__}
    then = run.origin.environment | {"vivace": run.origin.code_version}
    return {
        "run": run.id,
        "equal": identity == run.id,
        "weights_equal": weights == before,
        "weights": [before, weights],
        "best_validation_loss": [run.facts.get("best_validation_loss"), facts.get("best_validation_loss")],
        "environment": _differing([then, now]),
        "seconds": round(time.monotonic() - began, 3),
    }


def _trainings(project: Project) -> list[Artifact]:
    runs = [run for stage in STAGES for run in project.store.artifacts(stage) if run.path.is_dir()]
    return sorted(runs, key=lambda run: run.origin.created_at, reverse=True)


def _find(project: Project, prefix: str) -> Artifact:
    runs = _trainings(project)
    found = {run.id: run for run in reversed(runs) if run.id.startswith(prefix)}
    if not found:
        what = f"There is no training run {prefix!r}" if prefix else "There is no training run yet"
        raise StoreError(f"{what} in {project.root}.", "Make one with `vivace train`; `vivace train list` shows them.")
    if prefix and len(found) > 1:
        raise StoreError(f"{prefix!r} names {len(found)} training runs.", "Give more digits of the id.")
    return found[next(run.id for run in runs if run.id in found)]


def _settings(run: Artifact) -> tuple[TrainSettings, str]:
    values = {name: value for name, value in run.origin.settings.items() if name in TrainSettings.model_fields}
    unknown = set(run.origin.settings) - set(values) - {"system"}
    try:
        if unknown:
            raise ConfigError(f"Run {run.short_id} has settings that this Vivace does not know: {', '.join(unknown)}.")
        # Sums over another number of workers differ in the last bits.
        values["workers"] = run.facts.get("workers", 1)
        return TrainSettings(**values), str(run.origin.settings.get("system", ""))
    except ValidationError as error:
        raise ConfigError(
            f"The settings of run {run.short_id} are not valid in this Vivace ({error.error_count()} errors).",
            f"It was made by Vivace {run.origin.code_version}.",
        ) from error


def _dataset(project: Project, run: Artifact) -> Artifact:
    found = [item for item in project.store.artifacts() if item.kind == "dataset" and item.id in run.origin.parents]
    if not found or not is_whole(found[0].path.parent, deep=True):
        raise StoreError(
            f"The dataset of run {run.short_id} is gone or changed, so the run cannot be reproduced.",
            "Copy its folder back to .vivace/artifacts/dataset; `vivace data list` shows what is there.",
        )
    return found[0]


def _base(project: Project, run: Artifact) -> Model:
    base = stages.base_model(project)
    if project.digest(base.path) not in run.origin.parents:
        raise ConfigError(
            f"Run {run.short_id} started from another model than {base.name}, the base of this project.",
            "Name the run's base in [models], or with --set models.base=…",
        )
    return base


def _start(project: Project, run: Artifact) -> Artifact | None:
    """Return the run that an update went on from."""
    if "start" not in run.facts:
        return None
    start = project.store.artifact(run.facts["start"])
    if not is_whole(start.path.parent, deep=True):
        raise StoreError(
            f"Run {run.short_id} went on from run {start.short_id}, whose model is gone or changed.",
            "Copy its folder back to .vivace/artifacts/model.",
        )
    return start


def _last(run: Artifact, name: str) -> float | None:
    return next((row[name] for row in reversed(notes.read_history(run)) if row.get(name) is not None), None)


def _differing(tables: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for table in tables for name in table)
    rows = {name: [table.get(name) for table in tables] for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}
