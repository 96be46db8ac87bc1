"""Files are whole or absent, and journals survive a torn end."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.errors import DiskFullError, StoreError
from vivace.store.files import (
    append_line,
    disk_errors,
    folder_digest,
    guard_disk,
    read_journal,
    sha256_file,
    write_atomic,
)


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_aside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    write_atomic(target, "one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_journal_leaves_out_a_torn_line_and_goes_on_after_it(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    append_line(journal, b"first")
    with open(journal, "ab") as file:
        file.write(b"torn by a cra")
    assert read_journal(journal) == [b"first"]
    append_line(journal, b"second")
    assert read_journal(journal) == [b"first", b"second"]


@given(
    lines=st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=8),
    torn=st.binary(max_size=9),
)
def test_a_journal_returns_what_was_appended(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], torn: bytes
) -> None:
    journal = tmp_path_factory.mktemp("journal") / "j"
    for line in lines:
        append_line(journal, line)
    with open(journal, "ab") as file:
        file.write(torn.replace(b"\n", b""))
    append_line(journal, b"last")
    assert read_journal(journal) == [*lines, b"last"]


def test_a_line_with_a_newline_is_no_journal_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="newline"):
        append_line(tmp_path / "j", b"a\nb")


def test_a_full_disk_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="full"), disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_another_error_of_the_system_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Interrupted"), disk_errors(tmp_path):
        raise OSError(errno.EINTR, "Interrupted")


def test_a_really_full_disk_loses_nothing_that_was_there() -> None:
    """/dev/full refuses every write as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(DiskFullError), disk_errors(Path("/dev/full")), open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def test_work_that_cannot_fit_is_refused_before_it_starts(tmp_path: Path) -> None:
    guard_disk(tmp_path, 1)
    with pytest.raises(DiskFullError, match="MB are needed"):
        guard_disk(tmp_path / "not" / "there" / "yet", 10**18)


def test_a_folder_digest_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_atomic(tmp_path / name / "sub" / "x", "same")
    os.utime(tmp_path / "a" / "sub" / "x", (1, 1))
    assert folder_digest(tmp_path / "a") == folder_digest(tmp_path / "b")
    write_atomic(tmp_path / "b" / "sub" / "x", "other")
    assert folder_digest(tmp_path / "a")[0] != folder_digest(tmp_path / "b")[0]
    (tmp_path / "a" / "sub" / "x").rename(tmp_path / "a" / "sub" / "y")
    assert folder_digest(tmp_path / "a")[1]["sub/y"]["sha256"] == sha256_file(tmp_path / "a" / "sub" / "y")


def test_a_link_is_no_part_of_an_artifact(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(StoreError, match="link"):
        folder_digest(tmp_path)


def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomic(target, b"a" * 100_000)
    code = (
        "import sys; from pathlib import Path; from vivace.store.files import write_atomic\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    for letter in b'bc': write_atomic(Path(sys.argv[1]), bytes([letter]) * 100_000)\n"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
        content = target.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
