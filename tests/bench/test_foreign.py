"""Whose load it is."""

import subprocess
import sys
import time

import pytest

from vivace.bench.foreign import ForeignLoad, foreign_fraction

BURN = "import time; end = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"
# The child hands the work to a process that outlives it, which is then nobody's child here.
BURN_ELSEWHERE = f"import os\nif os.fork() == 0:\n os.setsid()\n exec({BURN!r})"


@pytest.mark.parametrize(
    ("busy_s", "own_s", "capacity_s", "fraction"),
    [(2.0, 2.0, 10.0, 0.0), (3.0, 1.0, 10.0, 0.2), (1.0, 1.1, 10.0, 0.0), (30.0, 0.0, 10.0, 1.0), (1.0, 0.0, 0.0, 0.0)],
)
def test_the_fraction_is_what_others_used(busy_s: float, own_s: float, capacity_s: float, fraction: float) -> None:
    assert foreign_fraction(busy_s, own_s, capacity_s) == pytest.approx(fraction)


def test_our_own_work_and_our_childrens_is_ours_and_another_programs_is_not() -> None:
    from vivace.bench import foreign

    before = foreign._own_seconds()
    child = subprocess.Popen([sys.executable, "-c", BURN])
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    child.wait()
    ours = foreign._own_seconds() - before
    assert ours > 0.3
    before = foreign._own_seconds()
    load = ForeignLoad()
    subprocess.run([sys.executable, "-c", BURN_ELSEWHERE], check=True)
    time.sleep(1.2)
    assert foreign._own_seconds() - before < 0.6
    assert load.fraction() > 0.05
