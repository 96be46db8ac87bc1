"""Look at files before a project exists: what they are, how much is in them, which settings suit them."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.documents.rows import holds_documents
from vivace.data.reading.dataset_info import is_dataset_info, listed_datasets
from vivace.data.reading.detection import choose_reader
from vivace.data.reading.files import DOCUMENT_SUFFIXES, documents_below, named_split, record_files, stem, unpacked_name
from vivace.data.reading.records import Source
from vivace.data.rows import Raw, render
from vivace.data.steps.language import detect
from vivace.errors import DataError

EXACT_BYTES = 32 << 20
SAMPLE_ROWS = 500
SHOWN = 3
_GROUPS = ("customer_id", "customer", "user_id", "user", "client_id", "requester_id", "account_id", "contact_id")
_HELD_OUT = ("test", "heldout", "held_out", "held-out", "eval", "holdout")


class Sniff(Struct, frozen=True):
    """What files hold: format by file, `rows` (exact, or an `estimate`), rendered samples, `[data]` settings to try."""

    formats: dict[str, str]
    rows: int
    estimate: bool
    samples: tuple[str, ...]
    settings: dict[str, Any]


def sniff(paths: list[Path], format: str = "", columns: Mapping[str, str] | None = None) -> Sniff:
    """Return what the files are; raises `DataError` for one that is missing or in no known format.

    `format` and `columns` are the settings of that name, for what cannot be told from the content.
    """
    formats: dict[str, str] = {}
    settings: dict[str, list[str]] = {"conversations": [], "test": [], "documents": []}
    found: list[Raw] = []
    total = 0.0
    estimate = False
    for path in paths:
        kind = _kind(path)
        settings[kind].append(str(path))
        if kind == "documents":
            formats[str(path)] = "documents"
            continue
        formats[str(path)], rows, count, exact = _count(path, format, columns or {})
        estimate = estimate or not exact
        total += count
        found += rows
    if settings["test"] and not settings["conversations"]:
        settings["conversations"], settings["test"] = settings["test"], []
    suggested: dict[str, Any] = {key: value for key, value in settings.items() if value}
    suggested |= {key: value for key, value in (("format", format), ("columns", dict(columns or {}))) if value}
    return Sniff(
        formats, round(total), estimate, _shown(found), {**suggested, **_suggest(found, held_out="test" in suggested)}
    )


def _kind(path: Path) -> str:
    if not path.exists():
        names = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
        raise DataError(f"There is no file {path}.", f"{path.parent} has {', '.join(names[:8])}." if names else "")
    if path.is_dir():
        if any(not holds_documents(Source(file)) for file in record_files(path)):
            return "conversations"
        if documents_below(path):
            return "documents"
        raise DataError(f"The folder {path} has neither conversations nor documents.", "Name the files one by one.")
    if is_dataset_info(path):
        return "conversations"
    if unpacked_name(path).endswith(DOCUMENT_SUFFIXES) and not _readable(path):
        return "documents"
    if holds_documents(Source(path)):
        return "documents"
    words = stem(path).lower().replace("-", "_").split("_")
    return "test" if stem(path).lower() in _HELD_OUT or any(word in _HELD_OUT for word in words) else "conversations"


def _readable(path: Path) -> bool:
    try:
        return choose_reader(path)[1] is not None
    except DataError:
        return False


def _count(path: Path, asked: str, columns: Mapping[str, str]) -> tuple[str, list[Raw], float, bool]:
    """Return format, first rows, number of conversations and whether that is exact."""
    names: dict[str, None] = {}
    rows: list[Raw] = []
    total, exact = 0.0, True
    for source, format in _sources(path, asked, columns):
        name, reader = choose_reader(source, format)
        names[name] = None
        count = 0.0
        large = source.path.stat().st_size > EXACT_BYTES
        for item in reader.read(source) if reader else ():
            if isinstance(item, Raw):
                count += 1
                if len(rows) < SAMPLE_ROWS:
                    rows.append(item)
                elif large:
                    count, exact = count / (source.share_read() or 1.0), False
                    break
        total += count
    return ", ".join(names) or "empty", rows, total, exact


def _sources(path: Path, asked: str, columns: Mapping[str, str]) -> list[tuple[Source, str]]:
    if path.is_dir():
        files = record_files(path)
        learned = [file for file in files if named_split(file, path) != "test"]
        return [(Source(file, columns), asked) for file in learned or files]
    if is_dataset_info(path):
        return [
            (Source(inner, listed.columns, listed.tags), listed.format)
            for listed in listed_datasets(path)
            for inner in listed.paths
        ]
    return [(Source(path, columns), asked)]


def _shown(rows: list[Raw]) -> tuple[str, ...]:
    places = sorted({round(place * (len(rows) - 1) / (SHOWN - 1)) for place in range(SHOWN)}) if rows else []
    return tuple(render(rows[place].messages, 600) for place in places)


def _suggest(rows: list[Raw], *, held_out: bool) -> dict[str, Any]:
    if not rows:
        return {}
    suggested: dict[str, Any] = {}
    keys = Counter(key for row in rows for key in row.metadata)
    # With a test file, training conversations of its customers would leave: that is for the user to ask for.
    for name in () if held_out else _GROUPS:
        key = next((key for key in keys if key.casefold() == name), None)
        values = {str(row.metadata.get(key)) for row in rows} if key else set()
        if key and keys[key] > 0.9 * len(rows) and 1 < len(values) < len(rows):
            suggested["group_by"] = key
            break
    languages = Counter(_language(row) for row in rows)
    languages.pop("", None)
    common = [code for code, count in languages.most_common() if count >= 0.05 * languages.total()]
    if common and common != DataSettings().languages:
        suggested["languages"] = sorted(common)
    return suggested


def _language(row: Raw) -> str:
    return detect(" ".join(message.content for message in row.messages if message.role == "user"))[0]
