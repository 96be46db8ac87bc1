"""Cached models are whole or absent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vivace.models.cache import MANIFEST, Manifest, cache_root, cached, fingerprint, is_intact, is_whole

BUILD = """
import sys, time
from pathlib import Path
from vivace.models.cache import Manifest, cached
log, folder, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
def build(out):
    with open(log, "a") as file: file.write("built\\n")
    (out / "a.txt").write_text("half")
    time.sleep(pause)
    (out / "a.txt").write_text("whole")
    return Manifest("m", "test")
assert (cached(folder, build) / "a.txt").read_text() == "whole"
"""


def run_build(tmp_path: Path, pause_s: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(tmp_path / "log"), str(tmp_path / "models" / "m"), str(pause_s)]
    )


def make(out: Path) -> Manifest:
    (out / "a.txt").write_text("one")
    (out / "b.txt").write_text("two")
    return Manifest("m", "test", license="MIT")


def never(out: Path) -> Manifest:
    raise AssertionError("built again")


def test_two_processes_at_once_build_it_once(tmp_path: Path) -> None:
    processes = [run_build(tmp_path, 0.3) for _ in range(3)]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_killed_build_is_never_seen_and_the_next_one_succeeds(tmp_path: Path) -> None:
    process = run_build(tmp_path, 60)
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("models/.*partial/a.txt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    folder = tmp_path / "models" / "m"
    assert not folder.exists()
    assert run_build(tmp_path, 0).wait(30) == 0
    assert is_intact(folder)
    assert not list(tmp_path.glob("models/.*partial"))


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        cached(tmp_path / "m", never)
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    cached(tmp_path / "m", make)
    assert cached(tmp_path / "m", never) == tmp_path / "m"


@pytest.mark.parametrize("damage", ["cut", "missing", "no manifest", "broken manifest"])
def test_a_damaged_folder_is_built_again(tmp_path: Path, damage: str) -> None:
    folder = cached(tmp_path / "m", make)
    if damage == "cut":
        (folder / "a.txt").write_text("o")
    elif damage == "missing":
        (folder / "b.txt").unlink()
    elif damage == "no manifest":
        (folder / MANIFEST).unlink()
    else:
        (folder / MANIFEST).write_text('{"name": ')
    assert not is_whole(folder)
    cached(folder, make)
    assert is_intact(folder)


def test_a_changed_byte_is_found_by_reading(tmp_path: Path) -> None:
    folder = cached(tmp_path / "m", make)
    (folder / "a.txt").write_text("0ne")
    assert is_whole(folder)
    assert not is_intact(folder)


def test_the_fingerprint_is_that_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    one, two = cached(tmp_path / "one", make), tmp_path / "two"
    two.mkdir()
    make(two)
    assert fingerprint(one) == fingerprint(two)
    (two / "a.txt").write_text("0ne")
    assert fingerprint(one) != fingerprint(two)


def test_the_manifest_is_the_same_every_time(tmp_path: Path) -> None:
    first, second = (cached(tmp_path / name, make) / MANIFEST for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(first.read_text())["license"] == "MIT"


def test_the_cache_can_be_put_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    assert cache_root(tmp_path / "other") == tmp_path / "other"
    monkeypatch.delenv("VIVACE_CACHE")
    assert cache_root() == Path.home() / ".cache" / "vivace"
