"""Rows of Parquet and Arrow files, a batch at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from vivace.errors import DataError

PARQUET_MAGIC = b"PAR1"
ARROW_MAGIC = b"ARROW1"
ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"
MAX_GROUP_BYTES = 4 << 30
_BATCH_ROWS = 256


def columnar_kind(head: bytes) -> str:
    """Return "parquet", "arrow", or "" for anything else."""
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    return "arrow" if head.startswith((ARROW_MAGIC, ARROW_STREAM_MAGIC)) else ""


def columnar_rows(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Yield each row as JSON values; raises `DataError` when the file is damaged."""
    with _damage_told(path, kind):
        for batch in _parquet(path) if kind == "parquet" else _arrow(path):
            for row in batch.to_pylist():
                # times, decimals and bytes become text; what has no text form is told as Python writes it
                yield msgspec.to_builtins(row, str_keys=True, enc_hook=str)


def count_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file."""
    import pyarrow.parquet as pq

    with _damage_told(path, "parquet"):
        return int(pq.read_metadata(path).num_rows)


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for place in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(place).total_byte_size
            if size > MAX_GROUP_BYTES:
                raise DataError(
                    f"{path} has a row group of {size >> 20} MiB, more than {MAX_GROUP_BYTES >> 20} MiB.",
                    "Write it with smaller row groups.",
                )
        yield from file.iter_batches(batch_size=_BATCH_ROWS)


def _arrow(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        if bytes(source.read(len(ARROW_MAGIC))) == ARROW_MAGIC:
            file = pa.ipc.open_file(source)
            batches = (file.get_batch(place) for place in range(file.num_record_batches))
        else:
            source.seek(0)
            batches = iter(pa.ipc.open_stream(source))
        for batch in batches:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                yield batch.slice(start, _BATCH_ROWS)


@contextmanager
def _damage_told(path: Path, kind: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read as {kind.capitalize()}: {told[:200]}", "Export it again.") from error
