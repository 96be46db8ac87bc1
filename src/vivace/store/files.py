"""Files that are whole or absent: write aside, fsync, rename."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vivace.errors import DiskFullError, StoreError

BLOCK_BYTES = 1 << 20


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into one sentence about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"The disk that holds {path} is full.", "Free some space and run the same command again; it continues."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreError(f"{path} cannot be written.", "Check its owner and permissions.") from error
        raise


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content`; a reader sees the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def append_line(path: Path, line: bytes) -> None:
    """Add one line to a journal and return when it is on disk; a torn line before it is cut off."""
    if b"\n" in line:
        raise ValueError("a journal line holds no newline")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.truncate(_last_newline(path) + 1)
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())


def read_journal(path: Path) -> list[bytes]:
    """Return the whole lines of a journal; a last line without newline was torn by a crash and is left out."""
    if not path.exists():
        return []
    return path.read_bytes().split(b"\n")[:-1]


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> tuple[str, dict[str, dict[str, str | int]]]:
    """Return the digest of a folder's content and, per relative path, its SHA-256 and size.

    Names and contents count; times, owners and the folder's own place do not.
    """
    entries: dict[str, dict[str, str | int]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise StoreError(f"{path} is a link; artifacts hold plain files only.")
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            entries[name] = {"sha256": sha256_file(path), "size_bytes": path.stat().st_size}
    return digest_of(entries), entries


def digest_of(entries: dict[str, dict[str, str | int]]) -> str:
    """Return the digest of a table of files as `folder_digest` makes it."""
    total = hashlib.sha256()
    for name in sorted(entries):
        total.update(f"{entries[name]['sha256']}  {entries[name]['size_bytes']}  {name}\n".encode())
    return total.hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make everything below `folder` durable."""
    with disk_errors(folder):
        for path in folder.rglob("*"):
            if path.is_file():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
            elif path.is_dir():
                sync_folder(path)
        sync_folder(folder)


def free_bytes(path: Path) -> int:
    """Return the free space of the disk that holds `path` or its nearest existing parent."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def guard_disk(path: Path, need_bytes: int) -> None:
    """Raise `DiskFullError` before work starts that would not fit."""
    free = free_bytes(path)
    if free < need_bytes:
        raise DiskFullError(
            f"{need_bytes / 1e6:,.0f} MB are needed in {path}, {free / 1e6:,.0f} MB are free.", "Free some space first."
        )


def _last_newline(path: Path) -> int:
    """Return the offset of the last newline, -1 when there is none."""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position:
            start = max(0, position - BLOCK_BYTES)
            file.seek(start)
            found = file.read(position - start).rfind(b"\n")
            if found >= 0:
                return start + found
            position = start
    return -1
