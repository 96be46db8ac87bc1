"""Write the pages that are made from the code: docs/configuration.md and docs/cli.md. `--check` only compares."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vivace.cli.main import COMMANDS
from vivace.config import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
EMPTY = '""'


def configuration() -> str:
    """Return the page of every table and key of vivace.toml."""
    lines = [
        "# vivace.toml",
        "",
        "Every key with its default; all are optional. A key or table that is not here is an error, told with its line",
        "and the nearest valid name. `--set train.max_tokens=9000` wins over the file, an environment variable such as",
        '`VIVACE_TRAIN__MAX_TOKENS` over both. `""` means nothing where nothing is allowed.',
        "",
    ]
    for table, field in Settings.model_fields.items():
        model = field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(table)
        _table(f"[{table}]", model, lines, {})
    return "\n".join(lines)


def _table(title: str, model: type[BaseModel], lines: list[str], seen: dict[type[BaseModel], str]) -> None:
    """Write the keys of a table, then the tables in it: single ones, then those that can stand several times."""
    seen[model] = title
    lines += [f"## {title}", "", (model.__doc__ or "").strip(), ""]
    lines += ["| key | default | what it does |", "|---|---|---|"]
    single: list[tuple[str, type[BaseModel]]] = []
    several: list[tuple[str, type[BaseModel]]] = []
    name = title.partition(" with ")[0].strip("[]")
    for key, item in model.model_fields.items():
        kinds = list(_kinds(item.annotation))
        if kinds == [item.annotation]:
            if kinds[0] in seen:
                lines.append(f"| `{key}` | as there | As {seen[kinds[0]]}. |")
            else:
                single.append((f"[{name}.{key}]", kinds[0]))
            continue
        named = get_origin(item.annotation) is dict
        title = f"[{name}.{key}.NAME]" if named else f"[[{name}.{key}]]"
        several += [(title + _type(kind), kind) for kind in kinds]
        lines.append(f"| `{key}` | {_default(item)} | {_cell(item.description)} |")
    lines.append("")
    for inner, kind in (*single, *several):
        if kind not in seen:
            _table(inner, kind, lines, seen)


def _type(kind: type[BaseModel]) -> str:
    """Return how one kind of table is told from the others under the same name."""
    field = kind.model_fields.get("type")
    values = get_args(field.annotation) if field is not None else ()
    return f" with type = {json.dumps(values[0])}" if values else ""


def _kinds(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the tables that a key can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _default(item: FieldInfo) -> str:
    if item.is_required():
        return "required"
    if isinstance(item.default, BaseModel):
        return "as there"
    default = "" if item.default is None else repr(item.default).replace("'", '"')
    default = default.lower() if isinstance(item.default, bool) else default
    return f"`{default or EMPTY}`"


def commands() -> str:
    """Return the page of every command and option."""
    lines = ["# The command line", "", "`--help` after any command says the same.", ""]
    for name in COMMANDS:
        command = typer.main.get_command(import_module(f"vivace.cli.{name}").app)
        _describe(f"vivace {name}", command, lines)
    return "\n".join(lines)


def _describe(name: str, command: Any, lines: list[str]) -> None:
    lines += [f"## {name}", "", (command.help or "").strip(), ""]
    if hasattr(command, "commands"):
        for inner, sub in command.commands.items():
            _describe(f"{name} {inner}", sub, lines)
        return
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        if parameter.param_type_name == "argument":
            title = (parameter.name or "").upper()
        else:
            title = ", ".join(option for option in parameter.opts)
        text = getattr(parameter, "help", "") or ""
        rows.append(f"| `{title}` | {_cell(text)} |")
    if rows:
        lines += ["| option | what it does |", "|---|---|", *rows, ""]


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def main() -> int:
    """Write or check the pages; return the exit code."""
    stale = []
    for name, text in (("configuration.md", configuration()), ("cli.md", commands())):
        path = DOCS / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale and "--check" in sys.argv:
        sys.stderr.write(f"Out of date: {', '.join(stale)}. Run `make docs`.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
