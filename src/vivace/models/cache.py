"""The cache of models: folders that are whole or absent, whoever builds them and however they end."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct, field

from vivace.domain import Progress, SilentProgress
from vivace.store.files import digest_of, disk_errors, folder_digest, sync_folder, sync_tree, write_atomic

MANIFEST = "vivace-model.json"


class FileEntry(Struct, frozen=True):
    """A file of a cached model."""

    sha256: str
    size_bytes: int


class Manifest(Struct, frozen=True, omit_defaults=True):
    """What a cached model is and where it came from; `note` is what must be said beside its scores."""

    name: str
    source: str
    revision: str = ""
    license: str = ""
    note: str = ""
    files: dict[str, FileEntry] = field(default_factory=dict)


def cache_root(cache: Path | None = None) -> Path:
    """Return the cache folder: `cache`, else `$VIVACE_CACHE`, else `~/.cache/vivace`."""
    chosen = cache or Path(os.environ.get("VIVACE_CACHE") or Path.home() / ".cache" / "vivace")
    return chosen.expanduser().absolute()


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder the cache made, None for any other folder."""
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        return None


def is_whole(folder: Path) -> bool:
    """Tell whether every file of the manifest is there with its size, without reading them."""
    manifest = read_manifest(folder)
    return manifest is not None and all(
        _size(folder / name) == entry.size_bytes for name, entry in manifest.files.items()
    )


def is_intact(folder: Path) -> bool:
    """Tell whether every file still has the content it was cached with; reads them all."""
    manifest = read_manifest(folder)
    if manifest is None or not is_whole(folder):
        return False
    return all(
        folder_digest(folder)[1].get(name) == msgspec.to_builtins(entry) for name, entry in manifest.files.items()
    )


def fingerprint(folder: Path) -> str:
    """Return the hash of a model folder's content; a cached model's comes from its manifest without reading it."""
    manifest = read_manifest(folder) if is_whole(folder) else None
    if manifest is not None:
        return digest_of({name: msgspec.to_builtins(entry) for name, entry in manifest.files.items()})
    files = folder_digest(folder)[1]
    files.pop(MANIFEST, None)
    return digest_of(files)


def cached(folder: Path, build: Callable[[Path], Manifest], progress: Progress | None = None) -> Path:
    """Return `folder`, built into an empty folder aside and renamed if it is not there whole.

    Two processes that want the same model at once build it once: the second waits for the first. What a killed
    process left is cleared by the next.
    """
    if is_whole(folder):
        return folder
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.parent / f".{folder.name}.lock", progress or SilentProgress()):
        if is_whole(folder):
            return folder
        aside = folder.parent / f".{folder.name}.partial"
        with disk_errors(folder):
            for leftover in (aside, folder):
                shutil.rmtree(leftover, ignore_errors=True)
            aside.mkdir()
        try:
            manifest = build(aside)
            with disk_errors(folder):
                _seal(aside, manifest)
                os.replace(aside, folder)
                sync_folder(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def _seal(folder: Path, manifest: Manifest) -> None:
    sync_tree(folder)
    files = msgspec.convert(folder_digest(folder)[1], dict[str, FileEntry])
    sealed = msgspec.structs.replace(manifest, files=files)
    write_atomic(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(sealed), indent=1) + b"\n")


@contextmanager
def _lock(path: Path, progress: Progress) -> Iterator[None]:
    # The lock goes with the process that holds it; the file itself stays.
    with disk_errors(path), open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.task("Waiting for another process that fetches the same model"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
