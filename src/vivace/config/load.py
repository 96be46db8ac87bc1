"""Read `vivace.toml`: every error at once, with its line and the nearest valid key."""

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from vivace.config.settings import Settings
from vivace.errors import ConfigError
from vivace.registry import nearest

FILE_NAME = "vivace.toml"
_TABLE = re.compile(r"^\s*\[(\[?)([A-Za-z0-9_.\-]+)\]")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\-]+)\s*=")


def find_config(start: Path) -> Path:
    """Return the `vivace.toml` at `start` (a file or a folder) or in the nearest folder above it."""
    if start.is_file():
        return start
    if not start.exists():
        raise ConfigError(f"There is no {start}.", "Name a folder with a vivace.toml, or run `vivace init DIR` first.")
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise ConfigError(f"There is no {FILE_NAME} in {start.resolve()} or above it.", "Run `vivace init DIR` first.")


def load(path: Path, changes: Iterable[str] = ()) -> Settings:
    """Return the settings in `path` with `changes` (each `table.key=value`) laid over them."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}.", "Strings need quotes, lists need [ ].") from error
    for change in changes:
        _lay_over(tables, change)
    try:
        return Settings(**tables)
    except ValidationError as error:
        lines = line_numbers(text)
        told = [
            _tell(path.name, item["loc"], item["type"], item["msg"], item.get("input"), lines)
            for item in error.errors()
        ]
        raise ConfigError("\n".join(text for _line, text in sorted(told))) from None
    except SettingsError as error:
        raise ConfigError(
            f"An environment variable cannot be used: {error}.", "Write it as VIVACE_TABLE__KEY."
        ) from error


def line_numbers(text: str) -> dict[tuple[str, ...], int]:
    """Map `(table,)` and `(table, key)` to the 1-based line where the file has them; in [[table]] its number comes in
    between.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if fence:
            fence = "" if fence in line else fence
            continue
        if match := _TABLE.match(line):
            table = tuple(match[2].split("."))
            if match[1]:
                counts[table] += 1
                table = (*table, str(counts[table] - 1))
            found.setdefault(table, number)
        elif match := _KEY.match(line):
            found.setdefault((*table, match[1]), number)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2:
                fence = quotes
    return found


def resolve_secret(reference: str) -> str:
    """Return the value of an `env:NAME` reference; raises `ConfigError` when the variable is not set."""
    name = reference.removeprefix("env:")
    value = os.environ.get(name, "")
    if not value:
        raise ConfigError(
            f"The environment variable {name} is not set, but vivace.toml refers to it.", f"export {name}=…"
        )
    return value


def _tell(
    file: str, where: tuple[int | str, ...], kind: str, message: str, value: Any, lines: Mapping[tuple[str, ...], int]
) -> tuple[int, str]:
    path = tuple(str(part) for part in where)
    written = _without_tags(path)
    line = next((lines[written[:end]] for end in range(len(written), 0, -1) if written[:end] in lines), None)
    place = f"{file}, line {line}" if line else file
    if kind == "extra_forbidden":
        known = _valid_keys(path[:-1])
        what = "table" if len(path) == 1 else "key"
        owner = f" in [{'.'.join(written[:-1])}]" if len(path) > 1 else ""
        return line or 0, f"{place}: unknown {what} {path[-1]!r}{owner}. {nearest(path[-1], known)}"
    shown = "" if isinstance(value, (dict, list)) else f" (it is {value!r})"
    message = message.removeprefix("Value error, ")
    return line or 0, f"{place}: {'.'.join(written)}: {message[0].lower() + message[1:]}{shown}."


def _without_tags(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a place as the file has it: pydantic adds the kind of a table that can be of several kinds."""
    return tuple(part for place, part in enumerate(path) if part not in _tags(_kinds(path[:place])))


def _valid_keys(tables: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(key for kind in _kinds(tables) for key in kind.model_fields))


def _kinds(tables: tuple[str, ...]) -> list[type[BaseModel]]:
    """Return the kinds of table that a place can hold."""
    kinds: list[type[BaseModel]] = [Settings]
    named = False
    for name in tables:
        if named or name.isdigit():
            named = False  # the name that the user gave a table, or its number
            continue
        fields = [kind.model_fields[name] for kind in kinds if name in kind.model_fields]
        tagged = [kind for kind in kinds if name in _tags([kind])]
        kinds = list(_tables(fields[0].annotation)) if fields else tagged
        named = bool(fields) and get_origin(fields[0].annotation) is dict
    return kinds


def _tags(kinds: list[type[BaseModel]]) -> set[str]:
    """Return the words by which tables of several kinds are told apart."""
    several = [kind.model_fields["type"] for kind in kinds if "type" in kind.model_fields]
    return {word for field in several for word in get_args(field.annotation)}


def _tables(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the tables that an annotation speaks of, such as each kind of a list of several kinds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _tables(part)


def _lay_over(tables: dict[str, Any], change: str) -> None:
    name, equals, raw = change.partition("=")
    parts = name.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {change!r} is not TABLE.KEY=VALUE.", "For example: --set train.max_tokens=20000")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    table = tables
    for part in parts[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {change!r}: {part!r} is no table.", "Write it as TABLE.KEY=VALUE.")
        table = inner
    table[parts[-1]] = value
