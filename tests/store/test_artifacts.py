"""Stages run once, resume where they stopped, and are seen whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vivace.domain import SilentProgress, Workspace
from vivace.errors import DiskFullError, ResourceError, StoreError
from vivace.store.artifacts import Outcome, Store, is_whole


def write(text: str = "hello") -> Any:
    def work(workspace: Workspace) -> Mapping[str, Any]:
        (workspace.out / "file.txt").write_text(text)
        return {"letters": len(text)}

    return work


def run(store: Store, work: Any, **changes: Any) -> Outcome:
    told: dict[str, Any] = {
        "kind": "dataset",
        "settings": {"a": 1},
        "parents": {"x": "1"},
        "progress": SilentProgress(),
        **changes,
    }
    return store.run("data", work, **told)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".vivace")


def test_an_unchanged_stage_is_not_run_again(store: Store) -> None:
    calls = []

    def work(workspace: Workspace) -> dict[str, Any]:
        calls.append(1)
        return dict(write()(workspace))

    first, second = run(store, work), run(store, work)
    assert (first.reused, second.reused, len(calls)) == (False, True, 1)
    assert second.artifact == first.artifact
    assert second.artifact.facts == {"letters": 5}


@pytest.mark.parametrize("change", [{"settings": {"a": 2}}, {"parents": {"x": "2"}}, {"revision": 2}])
def test_a_stage_runs_again_when_what_it_depends_on_changes(store: Store, change: dict[str, Any]) -> None:
    run(store, write())
    assert not run(store, write("other"), **change).reused


def test_the_same_content_is_the_same_artifact_however_it_was_made(store: Store) -> None:
    first = run(store, write())
    second = run(store, write(), settings={"a": 2})
    assert first.artifact.id == second.artifact.id
    assert first.artifact.origin.key != second.artifact.origin.key


def test_a_failed_stage_leaves_no_artifact_and_keeps_its_scratch(store: Store) -> None:
    def fail(workspace: Workspace) -> dict[str, Any]:
        (workspace.scratch / "checkpoint").write_text("half")
        (workspace.out / "half.txt").write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        run(store, fail)
    assert store.artifacts() == []

    def go_on(workspace: Workspace) -> dict[str, Any]:
        assert (workspace.scratch / "checkpoint").read_text() == "half"
        assert not list(workspace.out.iterdir())
        return dict(write()(workspace))

    assert run(store, go_on).artifact.facts == {"letters": 5}
    assert not list((store.root / "work").iterdir())


def test_a_damaged_artifact_is_made_again(store: Store) -> None:
    made = run(store, write()).artifact
    (made.path / "file.txt").write_text("shorter or longer than before")
    assert not is_whole(made.path.parent)
    again = run(store, write())
    assert not again.reused
    assert (again.artifact.path / "file.txt").read_text() == "hello"


def test_a_change_of_the_same_size_is_seen_by_the_deep_check(store: Store) -> None:
    made = run(store, write()).artifact
    (made.path / "file.txt").write_text("hallo")
    assert is_whole(made.path.parent)
    assert not is_whole(made.path.parent, deep=True)


def test_a_lost_ledger_is_rebuilt_from_the_folders(store: Store) -> None:
    made = run(store, write()).artifact
    store.close()
    (store.root / "ledger.db").unlink()
    reopened = Store(store.root)
    assert reopened.artifacts() == [made]
    assert run(reopened, write()).reused


def test_a_folder_sealed_just_before_a_crash_is_adopted(store: Store) -> None:
    made = run(store, write()).artifact
    run(store, write("two"), settings={"b": 1})
    store.ledger.forget(made.origin.key)
    found = run(store, write())
    assert found.reused
    assert found.artifact.id == made.id


def test_only_one_command_changes_a_project_at_a_time(store: Store) -> None:
    with store.lock(), pytest.raises(StoreError, match=f"process {os.getpid()}"), Store(store.root).lock():
        pass
    with store.lock():
        pass


def test_an_artifact_is_found_by_the_first_digits_of_its_id(store: Store) -> None:
    made = run(store, write()).artifact
    assert store.artifact(made.short_id) == made
    with pytest.raises(StoreError, match="no artifact 'zz'"):
        store.artifact("zz")


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (OSError(28, "No space left on device"), DiskFullError),
        (RuntimeError("I/O error: No space left on device (os error 28)"), DiskFullError),
        (MemoryError(), ResourceError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ResourceError),
    ],
)
def test_a_full_disk_or_memory_is_named_whichever_library_met_it(
    store: Store, raised: Exception, told: type[Exception]
) -> None:
    def fail(workspace: Workspace) -> dict[str, Any]:
        raise raised

    with pytest.raises(told):
        run(store, fail)


def test_a_stage_killed_at_any_moment_leaves_nothing_half_written(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from vivace.store.artifacts import Store
from vivace.domain import SilentProgress
def work(workspace):
    print("working", flush=True)
    for number in range(200):
        (workspace.out / f"{number}.txt").write_text("x" * 1000)
        time.sleep(0.002)
    return {}
Store(Path(sys.argv[1])).run("s", work, kind="report", settings={}, parents={}, progress=SilentProgress())
print("done", flush=True)
"""
    for delay in (0.0, 0.2, 0.41, 0.45):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for folder in tmp_path.glob("artifacts/*/*"):
            assert is_whole(folder, deep=True)
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    (folder,) = tmp_path.glob("artifacts/report/*")
    assert is_whole(folder, deep=True)
    assert len(list((folder / "files").iterdir())) == 200
