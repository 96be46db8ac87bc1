"""A user's project: its folder, settings and store."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from vivace.config import Settings, find_config, load
from vivace.domain import Objective, Progress
from vivace.models import fingerprint
from vivace.store.artifacts import Store
from vivace.store.files import sha256_file, write_atomic

STORE = ".vivace"
"""The folder of artifacts, beside `vivace.toml`."""


class Project:
    """The folder of a `vivace.toml`; everything Vivace makes for it is in `.vivace` beside that file."""

    def __init__(self, config: Path, settings: Settings, store: Store, progress: Progress) -> None:
        self.config = config
        self.root = config.parent
        self.settings = settings
        self.store = store
        self.progress = progress

    @property
    def chain(self) -> dict[str, Any]:
        """The recipe of the layers around the engine, the same everywhere."""
        system = self.settings.project.system
        return {"system": system} if system else {}

    @property
    def objective(self) -> Objective:
        """What `[release]` asks of a release."""
        wanted = self.settings.release
        return Objective(
            service_level=wanted.service_level,
            ttft_ms=wanted.ttft_ms,
            tpot_ms=wanted.tpot_ms,
            quality_metric=wanted.quality_metric,
            max_degradation=wanted.max_degradation,
            max_size_bytes=None if wanted.max_size_mb is None else round(wanted.max_size_mb * 1e6),
            max_memory_bytes=None if wanted.max_memory_mb is None else round(wanted.max_memory_mb * 1e6),
            must_beat_base=wanted.must_beat_base,
        )

    def digest(self, path: Path) -> str:
        """Return the content hash of a file or folder, remembered for as long as no size or time in it changes."""
        memory = self.store.root / "digests.json"
        try:
            known: dict[str, Any] = json.loads(memory.read_bytes())
        except (OSError, ValueError):
            known = {}
        stamp = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in _files(path)]
        entry = known.get(str(path))
        if isinstance(entry, dict) and entry.get("stamp") == stamp:
            return str(entry["digest"])
        digest = sha256_file(path) if path.is_file() else fingerprint(path)
        write_atomic(memory, json.dumps(known | {str(path): {"stamp": stamp, "digest": digest}}))
        return digest


@contextmanager
def open_project(
    start: Path, progress: Progress, *, changes: Iterable[str] = (), lock: bool = True
) -> Iterator[Project]:
    """Open the project at or above `start`; `lock` keeps other commands from changing it meanwhile."""
    config = find_config(start)
    settings = load(config, changes)
    store = Store(config.parent / STORE)
    try:
        project = Project(config, settings, store, progress)
        if lock:
            with store.lock():
                yield project
        else:
            yield project
    finally:
        store.close()


def recipe(settings: Settings) -> str:
    """Return every setting as TOML, so that a release tells exactly how it was made."""
    lines: list[str] = []
    for name, values in settings.model_dump(mode="json").items():
        _write_table(name, values, lines)
    return "\n".join(lines).lstrip() + "\n"


def _write_table(name: str, values: dict[str, Any], lines: list[str]) -> None:
    """Write a table's values, then the tables in it; a mapping that is no table of ours is written as one, too."""
    lines += ["", f"[{name}]"]
    lines += [f"{_key(key)} = {inline_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, value in values.items():
        if isinstance(value, dict):
            _write_table(f"{name}.{_key(key)}", value, lines)


def inline_toml(value: Any) -> str:
    """Return a value as TOML on one line; what is None in a table is left out of it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {inline_toml(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline_toml, value)) + "]"
    return _literal(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _literal(value: Any) -> str:
    return '""' if value is None else json.dumps(value, ensure_ascii=False)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())


def table(settings: BaseModel) -> dict[str, Any]:
    """Return one table of settings as plain values for a stage key."""
    values: dict[str, Any] = settings.model_dump(mode="json")
    return values
