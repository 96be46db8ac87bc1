"""Recorded traffic: when requests came, how long they and their answers were, and what beginnings they shared.

Read are JSONL (`t`, `input_tokens`, `output_tokens`, `prefix_block_ids`), Mooncake's JSONL (`timestamp` in ms,
`input_length`, `output_length`, `hash_ids`) and Azure's CSV (`TIMESTAMP,ContextTokens,GeneratedTokens`), gzipped or
not. https://github.com/kvcache-ai/Mooncake, https://github.com/Azure/AzurePublicDataset
"""

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.errors import DataError

BLOCK_TOKENS = 512
"""Tokens that one id of a shared beginning stands for, in Mooncake's traces."""
LONGEST = 10_000_000
# What each kind of row calls time, input, output and shared blocks, and how many of its units a second has.
_NAMES = (
    ("t", "input_tokens", "output_tokens", "prefix_block_ids", 1.0),
    ("timestamp", "input_length", "output_length", "hash_ids", 1e3),
    ("TIMESTAMP", "ContextTokens", "GeneratedTokens", "", 1.0),
)
_HINT = "Its rows have t, input_tokens, output_tokens, or the names that Mooncake or Azure give them."


class Recorded(Struct, frozen=True):
    """One request of a trace: seconds, tokens, and ids of the blocks that its prompt begins with."""

    time_s: float
    input_tokens: int
    output_tokens: int
    block_ids: tuple[int, ...] = ()

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.input_tokens + self.output_tokens


class Chosen(Struct, frozen=True):
    """The first requests of a trace that fit a context, in the order they came; `too_long` were passed over."""

    requests: tuple[Recorded, ...]
    too_long: int


def read_trace(path: Path) -> list[Recorded]:
    """Return all requests in the order they came; raises `DataError` naming the first line that cannot be read."""
    text = _text(path)
    rows = _csv_rows(text) if _is_csv(text) else _json_rows(text, path)
    found = [_recorded(row, f"{path.name}:{number}") for number, row in rows]
    if not found:
        raise DataError(f"The trace {path} holds no request.", _HINT)
    return sorted(found, key=lambda each: each.time_s)


def choose(trace: Sequence[Recorded], count: int, context_tokens: int | None) -> Chosen:
    """Return the first `count` requests that fit; raises `DataError` where none does."""
    chosen: list[Recorded] = []
    too_long = 0
    for each in trace:
        if len(chosen) == count:
            break
        if context_tokens is not None and each.total_tokens > context_tokens:
            too_long += 1
        else:
            chosen.append(each)
    if not chosen:
        shortest = min(each.total_tokens for each in trace)
        raise DataError(
            f"No request of the trace fits into {context_tokens:,} tokens: the shortest has {shortest:,}.",
            "Take another trace, or a model with a longer context.",
        )
    return Chosen(tuple(chosen), too_long)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"The trace {path} is a damaged gzip file.") from None
    except UnicodeDecodeError:
        raise DataError(f"The trace {path} is not UTF-8 text.", _HINT) from None
    except OSError as error:
        raise DataError(f"The trace {path} cannot be read: {error.strerror}.") from None


def _is_csv(text: str) -> bool:
    return not text.lstrip().startswith("{") and "," in text.partition("\n")[0]


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text))
    for row in reader:
        yield reader.line_num, row


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path.name}:{number} is no JSON object.", _HINT)
        yield number, row


def _recorded(row: Mapping[str, Any], place: str) -> Recorded:
    for time, read, written, blocks, unit in _NAMES:
        if time in row and read in row:
            ids = row.get(blocks) or [] if blocks else []
            if not isinstance(ids, list) or not all(isinstance(each, int) and each >= 0 for each in ids):
                raise DataError(f"{place}: {blocks} is {str(ids)[:60]}, not a list of whole numbers.")
            return Recorded(
                _seconds(row[time], place) / unit,
                _tokens(row, read, place, least=1),
                max(1, _tokens(row, written, place, least=0)),  # cut off before the first token: one was asked for
                tuple(ids),
            )
    raise DataError(f"{place} names no time and lengths: it has {', '.join(map(str, row)) or 'nothing'}.", _HINT)


def _seconds(value: Any, place: str) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            raise DataError(f"{place}: {str(value)[:60]!r} is no time.") from None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise DataError(f"{place}: {value} is no time.")
    return seconds


def _tokens(row: Mapping[str, Any], name: str, place: str, least: int) -> int:
    try:
        count = int(row[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{place}: {name} is {row.get(name)!r}, not a number of tokens.") from None
    if not least <= count <= LONGEST:
        raise DataError(f"{place}: {name} is {count:,}; from {least} to {LONGEST:,} can be asked for.")
    return count
