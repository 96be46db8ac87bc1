"""Sealed folders with their origin, and the runner that skips what has not changed."""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import msgspec

from vivace import __version__
from vivace.domain import Artifact, Kind, Origin, Progress, Workspace
from vivace.errors import DiskFullError, ResourceError, StoreError
from vivace.store.files import digest_of, disk_errors, folder_digest, sync_folder, sync_tree, write_atomic
from vivace.store.ledger import Ledger

MANIFEST = "manifest.json"
NAMED_PACKAGES = ("torch", "transformers", "trl", "peft", "openvino", "openvino-genai", "onnxruntime-genai", "nncf")


class Outcome(msgspec.Struct, frozen=True):
    """What a stage came to: its artifact, and whether it was there already."""

    artifact: Artifact
    reused: bool


class Store:
    """A project's `.vivace` folder: `artifacts/KIND/ID/`, `work/KEY/` while a stage runs, `ledger.db`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with disk_errors(root):
            for name in ("artifacts", "work"):
                (root / name).mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger.at(root / "ledger.db")
        if self.ledger.is_empty():
            self._reindex()

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the project: one command at a time changes it. The lock goes with the process that holds it."""
        path = self.root / "lock"
        with disk_errors(path), open(path, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise StoreError(
                    f"Another vivace command (process {holder}) is working in {self.root.parent}.",
                    "Wait for it to end, or stop it.",
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def run(
        self,
        stage: str,
        work: Callable[[Workspace], Mapping[str, Any]],
        *,
        kind: Kind,
        settings: Mapping[str, Any],
        parents: Mapping[str, str],
        progress: Progress,
        revision: int = 1,
    ) -> Outcome:
        """Return the artifact of this stage on these inputs, making it only if it is not there.

        `parents` maps the name of each input to its content hash; `revision` changes when the stage's code changes what
        it makes. `work` fills `workspace.out` and returns the facts; interrupted, it finds `workspace.scratch` again.
        """
        key = stage_key(stage, settings, parents, revision)
        found = self.lookup(key)
        if found is not None:
            return Outcome(found, reused=True)
        folder = self.root / "work" / key[:24]
        workspace = Workspace(out=folder / "out", scratch=folder / "scratch", progress=progress)
        with disk_errors(folder):
            shutil.rmtree(workspace.out, ignore_errors=True)
            workspace.out.mkdir(parents=True)
            workspace.scratch.mkdir(exist_ok=True)
        started = time.monotonic()
        with _stage_errors(stage, folder):
            facts = dict(work(workspace))
        origin = Origin(
            stage=stage,
            key=key,
            settings=dict(settings),
            parents=tuple(sorted(parents.values())),
            code_version=__version__,
            environment=environment(),
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            seconds=round(time.monotonic() - started, 3),
        )
        artifact = self._seal(workspace.out, kind, origin, facts)
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(artifact, reused=False)

    def lookup(self, key: str) -> Artifact | None:
        """Return the artifact that the stage run with this key made, if it is whole on disk."""
        row = self.ledger.find(key)
        if row is None:
            return self._adopt(key)
        folder = self.root / "artifacts" / row["kind"] / row["artifact_id"]
        if not is_whole(folder):
            self.ledger.forget(key)
            return None
        return self._artifact(folder, row)

    def artifact(self, prefix: str) -> Artifact:
        """Return the newest artifact whose id begins with `prefix`; raises `StoreError` when there is none."""
        rows = [row for row in self.ledger.runs() if row["artifact_id"].startswith(prefix)]
        if not rows:
            raise StoreError(f"There is no artifact {prefix!r} in {self.root}.", "`vivace run` lists what it made.")
        if len({row["artifact_id"] for row in rows}) > 1:
            raise StoreError(f"{prefix!r} names several artifacts in {self.root}.", "Give more digits of the id.")
        return self._artifact(self.root / "artifacts" / rows[0]["kind"] / rows[0]["artifact_id"], rows[0])

    def artifacts(self, stage: str | None = None) -> list[Artifact]:
        """Return the artifacts of one stage or of all, newest first."""
        rows = self.ledger.runs(stage)
        return [self._artifact(self.root / "artifacts" / row["kind"] / row["artifact_id"], row) for row in rows]

    def _seal(self, out: Path, kind: Kind, origin: Origin, facts: dict[str, Any]) -> Artifact:
        sync_tree(out)
        identity, files = folder_digest(out)
        if not files:
            raise StoreError(f"The stage {origin.stage} made no files.")
        size = sum(int(entry["size_bytes"]) for entry in files.values())
        manifest = {
            "id": identity,
            "kind": kind,
            "files": files,
            "size_bytes": size,
            "facts": facts,
            "origin": msgspec.to_builtins(origin),
        }
        target = self.root / "artifacts" / kind / identity
        sealed = out.parent / "sealed"
        with disk_errors(target):
            shutil.rmtree(sealed, ignore_errors=True)
            sealed.mkdir()
            os.replace(out, sealed / "files")
            write_atomic(sealed / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists() and not is_whole(target):
                shutil.rmtree(target)
            if target.exists():
                # The same content was made before by other means: keep it, remember how it was made this time.
                write_atomic(target / MANIFEST, (sealed / MANIFEST).read_bytes())
            else:
                os.replace(sealed, target)
            sync_folder(target.parent)
        self._record(manifest)
        return Artifact(id=identity, kind=kind, path=target / "files", origin=origin, size_bytes=size, facts=facts)

    def _record(self, manifest: dict[str, Any]) -> None:
        origin = manifest["origin"]
        run = {
            name: origin[name]
            for name in ("key", "stage", "settings", "environment", "code_version", "created_at", "seconds")
        }
        run |= {"parents": list(origin["parents"]), "facts": manifest["facts"], "artifact_id": manifest["id"]}
        row = {name: manifest[name] for name in ("id", "kind", "size_bytes")} | {"created_at": origin["created_at"]}
        with disk_errors(self.root):
            self.ledger.record(run, row)

    def _adopt(self, key: str) -> Artifact | None:
        """Find a folder that was sealed but not yet in the ledger when the process was killed."""
        for path in self.root.glob(f"artifacts/*/*/{MANIFEST}"):
            manifest = _read_manifest(path)
            if manifest is not None and manifest["origin"]["key"] == key and is_whole(path.parent):
                self._record(manifest)
                row = self.ledger.find(key)
                return None if row is None else self._artifact(path.parent, row)
        return None

    def _reindex(self) -> None:
        for path in self.root.glob(f"artifacts/*/*/{MANIFEST}"):
            manifest = _read_manifest(path)
            if manifest is not None:
                self._record(manifest)

    def _artifact(self, folder: Path, row: dict[str, Any]) -> Artifact:
        origin = Origin(
            stage=row["stage"],
            key=row["key"],
            settings=row["settings"],
            parents=tuple(row["parents"]),
            code_version=row["code_version"],
            environment=row["environment"],
            created_at=row["created_at"],
            seconds=row["seconds"],
        )
        return Artifact(
            id=row["artifact_id"],
            kind=cast(Kind, row["kind"]),
            path=folder / "files",
            origin=origin,
            size_bytes=row["size_bytes"],
            facts=row["facts"],
        )


def stage_key(stage: str, settings: Mapping[str, Any], parents: Mapping[str, str], revision: int) -> str:
    """Return the hash of everything that decides what a stage makes."""
    told = {"stage": stage, "settings": settings, "parents": dict(parents), "revision": revision}
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def is_whole(folder: Path, *, deep: bool = False) -> bool:
    """Return whether a folder holds its manifest and every file it names, by size or (deep) by hash."""
    manifest = _read_manifest(folder / MANIFEST)
    if manifest is None:
        return False
    files = manifest["files"]
    if deep:
        identity, found = folder_digest(folder / "files")
        return bool(identity == manifest["id"] and found == files)
    if digest_of(files) != manifest["id"]:
        return False
    for name, entry in files.items():
        path = folder / "files" / name
        if not path.is_file() or path.stat().st_size != entry["size_bytes"]:
            return False
    return True


def environment() -> dict[str, str]:
    """Return what the machine and the packages are that may change a result."""
    told = {"python": platform.python_version(), "system": platform.platform(), "machine": platform.machine()}
    told["cores"] = str(os.cpu_count())
    for name in NAMED_PACKAGES:
        try:
            told[name] = version(name)
        except PackageNotFoundError:
            continue
    return told


def _read_manifest(path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    wanted = {"id", "kind", "files", "size_bytes", "facts", "origin"}
    return manifest if isinstance(manifest, dict) and wanted <= manifest.keys() else None


@contextmanager
def _stage_errors(stage: str, folder: Path) -> Iterator[None]:
    """Name full disks and full memory as such, whichever library met them first."""
    try:
        with disk_errors(folder):
            yield
    except MemoryError as error:
        raise ResourceError(
            f"The stage {stage} ran out of memory.",
            "Close other programs, or choose smaller batches or a smaller model.",
        ) from error
    except Exception as error:
        if "No space left on device" in str(error) and not isinstance(error, DiskFullError):
            raise DiskFullError(
                f"The disk that holds {folder} is full.", "Free some space and run it again."
            ) from error
        if "can't allocate memory" in str(error) or "bad allocation" in str(error):
            raise ResourceError(
                f"The stage {stage} ran out of memory.", "Close other programs, or choose smaller batches."
            ) from error
        raise
