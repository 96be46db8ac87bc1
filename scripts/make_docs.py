"""Write the pages that are made from the code: docs/configuration.md and docs/cli.md. `--check` only compares."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

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
        _table(table, model, lines)
    return "\n".join(lines)


def _table(name: str, model: type[BaseModel], lines: list[str]) -> None:
    """Write the keys of a table, then the tables in it."""
    lines += [f"## [{name}]", "", (model.__doc__ or "").strip(), ""]
    lines += ["| key | default | what it does |", "|---|---|---|"]
    inner: list[tuple[str, type[BaseModel]]] = []
    for key, item in model.model_fields.items():
        if isinstance(item.annotation, type) and issubclass(item.annotation, BaseModel):
            inner.append((f"{name}.{key}", item.annotation))
            continue
        default = "" if item.default is None else repr(item.default).replace("'", '"')
        default = default.lower() if isinstance(item.default, bool) else default
        lines.append(f"| `{key}` | `{default or EMPTY}` | {_cell(item.description)} |")
    lines.append("")
    for title, table in inner:
        _table(title, table, lines)


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
