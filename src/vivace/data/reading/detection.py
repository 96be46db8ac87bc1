"""Which reader a file is for, told from its content or by the settings."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from vivace.data.readers import READERS, Reader
from vivace.data.reading.records import Source
from vivace.errors import ConfigError, DataError
from vivace.registry import nearest


def choose_reader(source: Source | Path, format: str = "") -> tuple[str, Reader | None]:
    """Return name and reader of the file's format, told from its content unless `format` names it.

    An empty file gives ("empty", None). Raises `DataError` for an unknown or ambiguous one.
    """
    source = Source(source) if isinstance(source, Path) else source
    if format:
        reader = known_readers().get(format) or READERS.load(format)
        return (format, reader) if source.kind != "empty" else ("empty", None)
    if source.kind == "empty":
        return "empty", None
    readers = known_readers()
    found, ambiguous = _recognized(source, readers)
    if len(found) > 1:
        raise DataError(
            f"{source.path} could be {' or '.join(found)}: it has {_held(source)}.",
            f'Say which in vivace.toml: [data] format = "{found[0]}" (or --set data.format={found[0]}; '
            f"with vivace init: --format {found[0]}).",
        )
    if found:
        return found[0], readers[found[0]]
    if ambiguous:
        raise DataError(f"{source.path}: {ambiguous.message}", ambiguous.hint) from ambiguous
    needs = "; or ".join(reader.NEEDS for reader in readers.values())
    raise DataError(
        f"{source.path} is in no known format: it has {_held(source)}.",
        f"Needed: {needs}. If columns have other names, say so: "
        '[data] columns = { question = "your column", answer = "your column" } '
        '(with vivace init: --column question="your column").',
    )


@cache
def known_readers() -> dict[str, Reader]:
    """Return every reader by name; looking for those of other packages takes a while, so it is done once."""
    return {name: READERS.load(name) for name in READERS.names()}


def refuse_unknown_columns(columns: Mapping[str, str]) -> None:
    """Raise `ConfigError` for a name in `[data] columns` that no reader knows."""
    known = sorted({name for reader in known_readers().values() for names in reader.SLOTS.values() for name in names})
    for name in columns:
        if name not in known:
            raise ConfigError(f"[data] columns names {name!r}, which no reader knows.", nearest(name, known))


def _recognized(source: Source, readers: dict[str, Reader]) -> tuple[list[str], DataError | None]:
    found: list[str] = []
    ambiguous: DataError | None = None
    for name, reader in readers.items():
        try:
            if reader.recognizes(source):
                found.append(name)
        except DataError as error:
            if not error.message.startswith("The columns"):
                raise
            ambiguous = ambiguous or error
    return found, ambiguous


def _held(source: Source) -> str:
    if source.kind == "table":
        return "the columns " + ", ".join(source.keys)
    if source.keys:
        what = "rows" if source.kind in ("parquet", "arrow") else "JSON objects"
        return f"{what} with the keys " + ", ".join(source.keys)
    return f"a first line that starts {source.first_lines[0][:60]!r}" if source.first_lines else "no records"
