"""Notes of training runs: what is in them, and that MLflow's own client reads them."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vivace.domain import Artifact, Origin
from vivace.errors import StoreError
from vivace.train import notes

ROOT = Path(__file__).parents[2]


def make_run(folder: Path, key: str = "k1", rows: int = 4) -> Artifact:
    """A training artifact as the store keeps it."""
    files = folder / key / "files"
    (files / "model").mkdir(parents=True)
    (files / "model" / "adapter_model.safetensors").write_bytes(key.encode())
    history: list[dict[str, Any]] = [{"step": 0, "tokens": 0, "validation_loss": 3.0}]
    history += [{"step": n, "tokens": 9 * n, "loss": 3.0 / n, "learning_rate": 0.1} for n in range(1, rows)]
    (files / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    origin = Origin(
        stage="train",
        key=key,
        settings={"learning_rate": 0.1, "max_tokens": None, "preference": {"method": "none"}, "system": "Be kind."},
        parents=("base", "data"),
        code_version="0.1.0",
        environment={"torch": "2.13.0"},
        created_at="2026-11-21T10:00:10.000+00:00",
        seconds=10.0,
    )
    facts = {"steps": rows - 1, "device": "cpu", "peak_memory_bytes": 7, "seconds": {"train": 2.5}, "dataset": "data"}
    return Artifact(f"{key}-artifact", "model", files, origin, 1, facts)


def test_a_note_tells_settings_curves_hashes_and_surroundings(tmp_path: Path) -> None:
    note = notes.note_of(make_run(tmp_path))
    assert note.params == {
        "learning_rate": "0.1",
        "max_tokens": "",
        "preference.method": "none",
        "system": "Be kind.",
    }
    assert note.ended_ms - note.started_ms == 10_000
    loss = [(value, step) for name, value, _ms, step in note.metrics if name == "loss"]
    assert loss == [(3.0, 1), (1.5, 2), (1.0, 3)]
    figures = {name: (value, step) for name, value, _ms, step in note.metrics}
    assert figures["seconds.train"] == (2.5, 3)
    assert figures["peak_memory_bytes"] == (7.0, 3)
    assert figures["validation_loss"] == (3.0, 0)
    assert all(note.started_ms <= moment <= note.ended_ms for _name, _value, moment, _step in note.metrics)
    assert note.tags["environment.torch"] == "2.13.0"
    assert note.tags["vivace.dataset"] == "data"
    assert note.tags["vivace.device"] == "cpu"
    assert note.tags["vivace.weights"] == notes.weights_digest(tmp_path / "k1" / "files")


def test_no_file_and_a_strange_file_have_no_keys(tmp_path: Path) -> None:
    assert notes.noted_keys(tmp_path / "runs.db") == set()
    (tmp_path / "runs.db").write_text("not SQLite at all, but long enough to be taken for a header" * 9)
    assert notes.noted_keys(tmp_path / "runs.db") == set()
    sqlite3.connect(tmp_path / "other.db").close()
    assert notes.noted_keys(tmp_path / "other.db") == set()


def test_a_weight_that_changes_changes_the_hash(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, "a").path, make_run(tmp_path, "b").path
    assert notes.weights_digest(first) != notes.weights_digest(second)
    (second / "model" / "adapter_model.safetensors").write_bytes(b"a")
    assert notes.weights_digest(first) == notes.weights_digest(second)


@pytest.mark.slow
def test_mlflows_own_client_reads_what_was_noted_once(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    database = tmp_path / "runs.db"
    both = [notes.note_of(make_run(tmp_path, "k1", rows=1500)), notes.note_of(make_run(tmp_path, "k2"))]
    assert notes.write_notes(database, both[:1], "shop") == 1
    assert notes.write_notes(database, both, "shop") == 1
    assert notes.write_notes(database, both, "shop") == 0
    assert notes.noted_keys(database) == {"k1", "k2"}
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    place = client.get_experiment_by_name("shop").experiment_id
    runs = {run.data.tags[notes.KEY]: run for run in client.search_runs([place])}
    assert set(runs) == {"k1", "k2"}
    assert runs["k1"].info.status == "FINISHED"
    assert runs["k1"].data.params["learning_rate"] == "0.1"
    assert len(client.get_metric_history(runs["k1"].info.run_id, "loss")) == 1499
    assert runs["k2"].data.metrics["seconds.train"] == 2.5


@pytest.mark.slow
def test_a_note_that_was_torn_is_written_anew(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    database = tmp_path / "runs.db"
    notes.write_notes(database, [notes.note_of(make_run(tmp_path, "k1"))], "shop")
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    place = client.get_experiment_by_name("shop").experiment_id
    torn = client.create_run(place, tags={notes.WRITING: "k2"}).info.run_id
    own = client.create_run(place, tags={"mine": "yes"}).info.run_id
    assert notes.write_notes(database, [notes.note_of(make_run(tmp_path, "k2"))], "shop") == 1
    left = {run.info.run_id for run in client.search_runs([place])}
    assert torn not in left
    assert own in left
    assert len(left) == 3


@pytest.mark.slow
def test_a_file_that_mlflow_cannot_use_is_told_in_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "runs.db").write_text("not SQLite at all, but long enough to be taken for a header" * 9)
    with pytest.raises(StoreError, match="MLflow cannot"):
        notes.write_notes(tmp_path / "runs.db", [notes.note_of(make_run(tmp_path))], "shop")


@pytest.mark.slow
def test_noting_a_run_opens_no_connection(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    make_run(tmp_path)
    code = (
        "import sys, threading; from pathlib import Path\n"
        "seen = []\n"
        "names = ('os.fork', 'os.posix_spawn', 'socket.connect', 'socket.getaddrinfo')\n"
        "sys.addaudithook(lambda event, args: seen.append((event, args)) if event in names else None)\n"
        "from tests.train.test_notes import make_run\n"
        "from vivace.train import notes\n"
        "folder = Path(sys.argv[1])\n"
        "notes.write_notes(folder / 'runs.db', [notes.note_of(make_run(folder, 'k2'))], 'shop')\n"
        "print('SEEN', seen, threading.active_count())\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.splitlines()[-1] == "SEEN [] 1"
    assert shown.stderr == ""


def test_an_mlflow_that_cannot_be_imported_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken" / "mlflow").mkdir(parents=True)
    (tmp_path / "broken" / "mlflow" / "__init__.py").write_text("import no_such_package_at_all\n")
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.train.test_notes import make_run\n"
        "from vivace.train import notes\n"
        "folder = Path(sys.argv[1])\n"
        "try: notes.write_notes(folder / 'runs.db', [notes.note_of(make_run(folder))], 'shop')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    paths = [str(tmp_path / "broken"), str(ROOT), *sys.path]
    shown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith("StoreError MLflow is installed but cannot be imported: No module named 'no_such")
