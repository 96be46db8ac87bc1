"""LLaMA-Factory's `dataset_info.json`: which files it lists, and how their columns are called."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from vivace.errors import DataError

FILE_NAME = "dataset_info.json"
MAX_BYTES = 16 << 20
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history", "system": "system",
           "tools": "tools", "chosen": "chosen", "rejected": "rejected", "kto_tag": "label"}  # fmt: skip
_SHAREGPT = {"messages": "conversations", "system": "system", "tools": "tools", "chosen": "chosen",
             "rejected": "rejected", "kto_tag": "label"}  # fmt: skip


class Listed(Struct, frozen=True):
    """One dataset: its files, the reader and the names of its columns, or why it cannot be read."""

    name: str
    paths: tuple[Path, ...] = ()
    format: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def is_dataset_info(path: Path) -> bool:
    """Tell whether a file is such a list, by its name."""
    return path.name == FILE_NAME


def listed_datasets(path: Path) -> list[Listed]:
    """Return what the file lists, in its order; raises `DataError` when it lists nothing."""
    try:
        content = path.read_bytes()
        table = msgspec.json.decode(content) if len(content) <= MAX_BYTES else None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    entries = {name: entry for name, entry in table.items() if _is_entry(entry)} if isinstance(table, dict) else {}
    if not entries:
        raise DataError(
            f"{path} lists no datasets.",
            'It holds {"NAME": {"file_name": "FILE", …}}; of a `datasets` folder, name the folder itself.',
        )
    return [_listed(path.parent, name, entry) for name, entry in entries.items()]


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(
        {"file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url"} & entry.keys()
    )


def _listed(folder: Path, name: str, entry: dict[str, Any]) -> Listed:
    file_name = entry.get("file_name")
    if not isinstance(file_name, str):
        return Listed(name, problem=f"dataset {name!r} is on a hub, not in a file: download it and give its file_name")
    place = folder / file_name
    paths = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    if not paths or not all(path.is_file() for path in paths):
        return Listed(name, problem=f"dataset {name!r}: there is no file {file_name}")
    formatting = entry.get("formatting", "alpaca")
    if formatting not in ("alpaca", "sharegpt"):
        return Listed(name, problem=f"dataset {name!r} has the formatting {formatting!r}; known: alpaca, sharegpt")
    given, tags = entry.get("columns") or {}, entry.get("tags") or {}
    if not all(isinstance(part, dict) and all(map(_is_text, part.values())) for part in (given, tags)):
        return Listed(name, problem=f"dataset {name!r}: columns and tags are tables of texts")
    names = _ALPACA if formatting == "alpaca" else _SHAREGPT
    columns = {names[key]: column for key, column in given.items() if key in names and column}
    tags = {key: tag for key, tag in tags.items() if tag}
    ranked = bool(entry.get("ranking"))
    return Listed(name, tuple(paths), "preference" if ranked else formatting, columns, tags)


def _is_text(value: Any) -> bool:
    return isinstance(value, str | None)
