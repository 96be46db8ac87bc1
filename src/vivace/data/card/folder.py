"""What a dataset folder says of itself, whatever parts of it there are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from vivace.domain import Example
from vivace.errors import DataError

SPLITS = ("train", "validation", "test")


class DroppedRow(msgspec.Struct, frozen=True):
    """A line of dropped.jsonl."""

    step: str
    reason: str
    id: str
    row: Example
    detail: str = ""
    source: str = ""
    held_out: bool = False


class RejectedLine(msgspec.Struct, frozen=True):
    """A line of rejects.jsonl."""

    file: str
    line: int
    reason: str
    text: str = ""


def read_report(dataset: Path) -> dict[str, Any]:
    """Return report.json, with the settings of the run where the report or the store's manifest knows them."""
    path = dataset / "report.json"
    if not path.is_file():
        raise DataError(f"There is no dataset in {dataset}.", "Run `vivace data` first.")
    report = read_object(path)
    if "settings" not in report:
        origin = read_object(dataset.parent / "manifest.json").get("origin")
        if isinstance(origin, dict) and isinstance(origin.get("settings"), dict):
            report["settings"] = origin["settings"]
    return report


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty when there is no such file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Run `vivace data` again.") from error
    return value if isinstance(value, dict) else {}


def read_dropped(dataset: Path) -> Iterator[DroppedRow]:
    """Yield the rows that were dropped."""
    yield from _rows(dataset / "dropped.jsonl", msgspec.json.Decoder(DroppedRow))


def read_rejects(dataset: Path) -> Iterator[RejectedLine]:
    """Yield the lines that could not be read."""
    yield from _rows(dataset / "rejects.jsonl", msgspec.json.Decoder(RejectedLine))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file, none when there is no such file."""
    yield from _rows(path, msgspec.json.Decoder(dict[str, Any]))


def source_file(source: str) -> str:
    """Return the file of a `file:line`."""
    return source.rpartition(":")[0] or source


def _rows(path: Path, decoder: "msgspec.json.Decoder[Any]") -> Iterator[Any]:
    if not path.is_file():
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise DataError(f"{path}, line {number}: {error}.", "Run `vivace data` again.") from error
