"""Read what a search found and what it should have found: TREC files or JSON Lines, every fault with its line."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vivace.errors import DataError

Run = dict[str, dict[str, float]]
"""Query → document → score; higher is better."""
Judgments = dict[str, dict[str, int]]
"""Query → document → relevance; 0 is not relevant."""

RUN_SHAPE = 'A line is "query Q0 document rank score tag", or {"query": …, "documents": [best, next …]}.'
JUDGMENTS_SHAPE = 'A line is "query 0 document relevance", or {"query": …, "relevant": [document …]}.'
_HIGHEST = 10_000


def read_run(path: Path) -> Run:
    """Return a run; raises `DataError` with the line that cannot be used."""
    run: Run = {}

    def add(query: str, document: str, value: float) -> None:
        found = run.setdefault(query, {})
        if document in found:
            raise ValueError(f"document {document!r} is there a second time for query {query!r}")
        found[document] = value

    def parse(line: str) -> None:
        if line.startswith("{"):
            told = _object(line)
            query, listed = _name(told, "query"), told.get("documents")
            if isinstance(listed, list):
                run.setdefault(query, {})  # a search may find nothing
                for place, each in enumerate(listed):
                    add(query, _identity(each, "a document"), -float(place))
            else:
                add(query, _name(told, "document"), _number(told.get("score"), "score"))
            return
        fields = line.split()
        if len(fields) != 6:
            raise ValueError(f"{len(fields)} fields instead of 6")
        add(fields[0], fields[2], _number(fields[4], "score"))

    _each_line(path, parse, RUN_SHAPE)
    return run


def read_judgments(path: Path) -> Judgments:
    """Return judgments; raises `DataError` with the line that cannot be used."""
    judgments: Judgments = {}

    def add(query: str, document: str, value: float) -> None:
        found = judgments.setdefault(query, {})
        if document in found:
            raise ValueError(f"document {document!r} is judged a second time for query {query!r}")
        if value != int(value) or abs(value) > _HIGHEST:
            raise ValueError(f"relevance is {value:g}; it must be a whole number such as 0 or 1")
        found[document] = max(0, int(value))  # below 0 is junk to trec_eval, which is not relevant either

    def parse(line: str) -> None:
        if line.startswith("{"):
            told = _object(line)
            query, relevant = _name(told, "query"), told.get("relevant")
            if isinstance(relevant, dict):
                for document, value in relevant.items():
                    add(query, document, _number(value, "relevance"))
            elif isinstance(relevant, list):
                for document in relevant:
                    add(query, _identity(document, "a document"), 1)
            else:
                add(query, _name(told, "document"), _number(told.get("relevance"), "relevance"))
            return
        fields = line.split()
        if len(fields) != 4:
            raise ValueError(f"{len(fields)} fields instead of 4")
        add(fields[0], fields[2], _number(fields[3], "relevance"))

    _each_line(path, parse, JUDGMENTS_SHAPE)
    return judgments


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not blank; raises `DataError` for what is no UTF-8 text."""
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _each_line(path: Path, parse: Callable[[str], None], shape: str) -> None:
    empty = True
    for number, line in lines_of(path):
        empty = False
        try:
            parse(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}.", shape) from error
    if empty:
        raise DataError(f"{path} is empty.", shape)


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    assert isinstance(found, dict)  # it begins with a brace
    return found


def _name(told: dict[str, Any], key: str) -> str:
    if key not in told:
        raise ValueError(f"there is no {key!r}")
    return _identity(told[key], key)


def _identity(found: Any, what: str) -> str:
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise ValueError(f"{what} is {found!r}; an id is wanted")
    return str(found)


def _number(found: Any, what: str) -> float:
    try:
        value = math.nan if isinstance(found, bool) else float(found)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{what} is {found!r}; a number is wanted")
    return value
