"""A silent process is condemned for what the machine tells of it, not for its silence alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from vivace.engines.pulse import IDLE_STEP_S, SILENT_TICKS, STOPPED_TICKS, Pulse


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process that neither computes nor waits for the disk."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; print(flush=True); time.sleep(60)"], stdout=-1
    ) as it:
        assert it.stdout is not None
        it.stdout.readline()
        yield it.pid
        it.kill()


@pytest.fixture
def computer() -> Iterator[int]:
    """A process that computes, and holds Python's lock while it does."""
    code = "print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=-1) as it:
        assert it.stdout is not None
        it.stdout.readline()
        yield it.pid
        it.kill()


def ticks(pulse: Pulse, count: int, pause_s: float = 0.0) -> list[str]:
    found = []
    for _ in range(count):
        time.sleep(pause_s)
        found.append(pulse.tick())
    return found


def test_a_silent_process_that_does_nothing_is_condemned_after_a_few_ticks(sleeper: int) -> None:
    pulse = Pulse(sleeper, 180)
    pulse.tick()
    pulse.heard(0.0)
    found = ticks(pulse, SILENT_TICKS + 1)
    assert found[:-1] == [""] * SILENT_TICKS
    assert found[-1] == f"gave no sign of life for {SILENT_TICKS + 1} s"


def test_a_silent_process_that_computes_is_given_time_and_not_for_ever(computer: int) -> None:
    pulse = Pulse(computer, 12)
    found = ticks(pulse, 13, pause_s=0.03)
    assert found[:12] == [""] * 12
    assert found[12] == "gave no sign of life for 13 s"


def test_a_stopped_process_is_condemned_first(sleeper: int) -> None:
    os.kill(sleeper, signal.SIGSTOP)
    while psutil.Process(sleeper).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert ticks(Pulse(sleeper, 180), STOPPED_TICKS + 1)[-1] == "was stopped by a signal (SIGSTOP)"


def test_a_process_that_answers_is_never_condemned_for_idleness(sleeper: int) -> None:
    pulse = Pulse(sleeper, 180)
    for _ in range(int(IDLE_STEP_S) + 20):
        assert pulse.tick() == ""
        pulse.heard(0.0)


def test_a_step_without_end_is_condemned_though_the_process_answers(sleeper: int, computer: int) -> None:
    still, busy = Pulse(sleeper, 180), Pulse(computer, 180)
    said = []
    for second in range(int(IDLE_STEP_S) + 3):
        said.append(still.tick())
        still.heard(second + 1.0)
    assert f"stood still in the middle of a step for {IDLE_STEP_S:g} s" in said
    busy.heard(179.0)
    assert busy.tick() == ""
    busy.heard(181.0)
    assert busy.tick() == "did not come to the end of a step in 180 s"


def test_a_process_that_is_gone_is_no_traceback() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert ticks(Pulse(gone.pid, 180), SILENT_TICKS + 1)[-1].startswith("gave no sign of life")
