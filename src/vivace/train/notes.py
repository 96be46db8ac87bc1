"""Training runs as notes in MLflow's format, in a SQLite file that `mlflow ui` opens."""

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError

from vivace.domain import Artifact
from vivace.errors import StoreError
from vivace.store.files import digest_of, disk_errors, folder_digest, read_journal

DATABASE = "runs.db"
KEY = "vivace.key"
WRITING = "vivace.writing"
BATCH = 100  # MLflow takes at most so many params or tags, and ten times as many metrics, in one call
CURVES = ("loss", "validation_loss", "token_accuracy", "validation_token_accuracy", "learning_rate")


class Note(Struct, frozen=True):
    """What is noted of a run; `metrics` are rows of (name, value, time in ms, step)."""

    key: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: tuple[tuple[str, float, int, int], ...]
    started_ms: int
    ended_ms: int


def note_of(run: Artifact) -> Note:
    """Return the note of a training run, from its artifact alone: settings, hashes, environment, curves, figures."""
    origin, facts = run.origin, run.facts
    ended = round(datetime.fromisoformat(origin.created_at).timestamp() * 1000)
    started = ended - round(origin.seconds * 1000)
    figures = {name: value for name, value in flat(facts) if isinstance(value, int | float)}
    step = int(facts.get("steps", 0))
    metrics = [*_curves(run, started, ended)]
    metrics += [(name, float(value), ended, step) for name, value in figures.items() if name not in CURVES]
    tags = {f"vivace.{name}": value for name, value in flat(facts) if isinstance(value, str)}
    tags |= {f"environment.{name}": value for name, value in origin.environment.items()}
    tags |= {
        "vivace.artifact": run.id,
        "vivace.code_version": origin.code_version,
        "vivace.parents": " ".join(origin.parents),
        "vivace.weights": weights_digest(run.path),
        "mlflow.source.name": "vivace train",
    }
    params = {name: "" if value is None else str(value) for name, value in flat(origin.settings)}
    return Note(origin.key, run.short_id, params, tags, tuple(metrics), started, ended)


def weights_digest(folder: Path) -> str:
    """Return the hash of the weights in a run's folder: of the one file that holds them, or of all their hashes."""
    _, files = folder_digest(folder)
    weights = {name: entry for name, entry in files.items() if name.endswith(".safetensors")}
    return str(next(iter(weights.values()))["sha256"]) if len(weights) == 1 else digest_of(weights)


def is_available() -> bool:
    """Tell whether MLflow is installed; without it the artifacts alone hold the notes."""
    return find_spec("mlflow") is not None


def noted_keys(database: Path) -> set[str]:
    """Return the keys of the runs that are in the file, read without MLflow."""
    if not database.is_file():
        return set()
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return {str(row[0]) for row in connection.execute("SELECT value FROM tags WHERE key = ?", (KEY,))}
    except sqlite3.DatabaseError:
        return set()


def write_notes(database: Path, notes: Iterable[Note], experiment: str) -> int:
    """Add the notes that are not in the file yet, through MLflow's own client, and return how many.

    Raises `StoreError` when MLflow cannot be imported or cannot use the file, such as one of a newer MLflow.
    """
    known = noted_keys(database)
    missing = [note for note in notes if note.key not in known]
    if not missing:
        return 0
    make_client, failure = _mlflow()
    try:
        with disk_errors(database):
            client = make_client(tracking_uri=f"sqlite:///{database}")
            place = _experiment(client, database, experiment)
            _clear_torn(client, place)
            for note in missing:
                _write(client, place, note)
    except (failure, SQLAlchemyError) as error:
        told = str(error).splitlines()[0]
        raise StoreError(f"MLflow cannot use {database}: {told}.", "Move the file away: it is made anew.") from error
    return len(missing)


def _experiment(client: Any, database: Path, name: str) -> str:
    found = client.get_experiment_by_name(name)
    artifacts = (database.parent / "artifacts").resolve().as_uri()
    return str(found.experiment_id if found else client.create_experiment(name, artifacts))


def _mlflow() -> tuple[Any, type[Exception]]:
    """Import MLflow and return its client's class and its error's."""
    # Read once at import: whether MLflow reports its use, whether it looks for git, what it says.
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ[name] = "true"
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise StoreError(
            f"MLflow is installed but cannot be imported: {error}.", "Repair it, or uninstall it: notes are a copy."
        ) from error
    return MlflowClient, MlflowException


def _write(client: Any, experiment: str, note: Note) -> None:
    from mlflow.entities import Metric, Param, RunTag

    torn = {WRITING: note.key}
    run = client.create_run(experiment, start_time=note.started_ms, run_name=note.name, tags=torn).info.run_id
    for params in _batches([Param(name, value) for name, value in note.params.items()], BATCH):
        client.log_batch(run, params=params)
    for tags in _batches([RunTag(name, value) for name, value in note.tags.items()], BATCH):
        client.log_batch(run, tags=tags)
    for metrics in _batches([Metric(*row) for row in note.metrics], 10 * BATCH):
        client.log_batch(run, metrics=metrics)
    client.set_terminated(run, "FINISHED", end_time=note.ended_ms)
    # Last of all: without its key a note counts as torn and is written anew.
    client.set_tag(run, KEY, note.key)
    client.delete_tag(run, WRITING)


def _clear_torn(client: Any, experiment: str) -> None:
    for run in client.search_runs([experiment]):
        if WRITING in run.data.tags and KEY not in run.data.tags:
            client.delete_run(run.info.run_id)


def _curves(run: Artifact, started: int, ended: int) -> Iterator[tuple[str, float, int, int]]:
    """Yield the history's points; they have no time of their own, so it is spread evenly over the run."""
    rows = read_history(run)
    last = max((row["step"] for row in rows), default=0) or 1
    for row in rows:
        moment = started + round((ended - started) * row["step"] / last)
        for name in (*CURVES, "tokens"):
            if row.get(name) is not None:
                yield name, float(row[name]), moment, int(row["step"])


def read_history(run: Artifact) -> list[dict[str, Any]]:
    """Return the rows of a run's history, one a step."""
    rows = [msgspec.json.decode(line) for line in read_journal(run.path / "history.jsonl")]
    return [{"step": number} | row for number, row in enumerate(rows)]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its dotted name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
