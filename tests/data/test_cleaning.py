"""Cleaning in passes: several processes give what one gives, and their ends are told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.data.conftest import Run
from tests.data.material import chat, distinct, write_rows
from tests.data.rooms import NOTHING
from vivace.config.data import DataSettings
from vivace.data.cleaning import run as cleaning
from vivace.data.cleaning.batch import Plan
from vivace.data.cleaning.pool import Pool
from vivace.data.corpus.corpus import pack
from vivace.data.rows import Row
from vivace.domain import Example, Message
from vivace.errors import ConfigError, DataError, ResourceError


def rows(count: int) -> list[bytes]:
    return [
        pack(Row(Example(f"r{n}", (Message("user", f"Hello {n} <b>x</b>"), Message("assistant", f"Yes {n}")))))
        for n in range(count)
    ]


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children(recursive=True) if "vivace.data.cleaning.worker" in child.cmdline()]


@pytest.mark.slow
def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "SMALL", 10)
    monkeypatch.setattr(cleaning, "BATCH_ROWS", 7)
    mail = chat("I am jane@example.com, <b>help</b> me with the café", "Sure, jane@example.com.")
    broken = {"messages": [{"role": "assistant", "content": "nobody asked"}]}
    material = [item for n in range(60) for item in (distinct(n), {**mail, "n": n}, broken, distinct(n % 9))]
    write_rows(tmp_path / "a.jsonl", material)
    one, two = (run(conversations=["a.jsonl"], workers=workers) for workers in (1, 2))
    for path in one.out.iterdir():
        assert path.read_bytes() == (two.out / path.name).read_bytes(), path.name
    assert one.report["dropped_by_reason"]


@pytest.mark.slow
def test_a_process_that_dies_is_told_and_none_is_left_behind() -> None:
    def clean_while_killed() -> None:
        with Pool(Plan(NOTHING, ("encoding",), label=False), 2) as pool:
            found = pool.map([rows(5) for _ in range(200)])
            next(found)
            for child in workers_of(psutil.Process()):
                child.send_signal(signal.SIGKILL)
            list(found)

    with pytest.raises(ResourceError, match="ended unexpectedly"):
        clean_while_killed()
    assert workers_of(psutil.Process()) == []


@pytest.mark.slow
def test_processes_end_with_their_parent() -> None:
    code = (
        "import time; from tests.data.rooms import NOTHING; from vivace.data.cleaning.batch import Plan;"
        "from vivace.data.cleaning.pool import Pool\n"
        "with Pool(Plan(NOTHING, ('encoding',), label=False), 2): print('open', flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"open\n"
    children = workers_of(psutil.Process(parent.pid))
    assert len(children) == 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 20
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, "a process outlives its parent"
        time.sleep(0.05)


def test_a_step_that_fails_names_the_step_and_the_row(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "a.jsonl", [distinct(1), distinct(2)])
    from vivace.data.steps import whitespace

    def fail(text: str) -> str:
        raise IndexError("no such place")

    monkeypatch.setattr(whitespace, "squeeze", fail)
    with pytest.raises(DataError, match=r"step 'whitespace' failed on the row a:.*\(a\.jsonl:1\): IndexError"):
        run(conversations=["a.jsonl"])


def test_a_setting_that_a_step_refuses_is_told_before_any_row_is_cleaned(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "a.jsonl", [distinct(1)])
    with pytest.raises(ConfigError, match="not a language code"):
        run(conversations=["a.jsonl"], languages=["english"])


@pytest.mark.parametrize(
    ("steps", "passes"),
    [
        (["encoding", "turns"], [("encoding", "turns")]),
        (["encoding", "exact_duplicates", "turns"], [("encoding",), "exact_duplicates", ("turns",)]),
        (["exact_duplicates"], [(), "exact_duplicates"]),
        ([], [()]),
    ],
)
def test_row_steps_that_follow_one_another_are_one_pass(steps: list[str], passes: list[object]) -> None:
    found = cleaning.plan_passes(DataSettings(steps=steps))
    assert [item.steps if isinstance(item, Plan) else item[0] for item in found] == passes
    assert [item.label for item in found if isinstance(item, Plan)][-1]
