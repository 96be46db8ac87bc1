"""`vivace init`: a vivace.toml for one's own files."""

from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.options import Json

app = typer.Typer(add_completion=False)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new project.")],
    conversations: Annotated[list[Path], typer.Option("--from", help="File of conversations; may be repeated.")],
    documents: Annotated[
        list[Path] | None, typer.Option("--docs", help="Folder of documents; may be repeated.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the project and of the served model.")] = "",
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    base: Annotated[str, typer.Option(help="Base model: a known name, a Hugging Face name or a folder.")] = "",
    max_conversations: Annotated[int | None, typer.Option(min=1, help="Use a sample of at most so many.")] = None,
    format: Annotated[str, typer.Option(help="Format of the conversations, where it cannot be told.")] = "",
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN", help="Which of your columns is meant, such as question=Query; may be repeated."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing vivace.toml.")] = False,
    as_json: Json = False,
) -> None:
    """Look at your files, show what is in them, and write a commented vivace.toml."""
    import msgspec

    from vivace.cli.screen import out, print_json
    from vivace.loop.start import start_project

    target, found = start_project(
        folder,
        conversations,
        documents or [],
        name=name,
        system=system,
        base=base,
        max_conversations=max_conversations,
        format=format,
        columns=_columns(column or []),
        force=force,
    )
    if as_json:
        print_json({"config": target, "found": msgspec.to_builtins(found)})
        return
    for path, kind in found.formats.items():
        out.print(f"{path}: {kind}")
    noun = "conversation" if found.rows == 1 else "conversations"
    out.print(f"{'About ' if found.estimate else ''}{found.rows:,} {noun}.")
    for number, sample in enumerate(found.samples, start=1):
        out.print(f"\n[bold]Sample {number}[/bold]")
        out.print(sample, markup=False)
    out.print(f"\nWrote {target}. Next: vivace run {folder}")


def _columns(given: list[str]) -> dict[str, str]:
    """Return `NAME=COLUMN` options as a table."""
    from vivace.errors import ConfigError

    columns: dict[str, str] = {}
    for option in given:
        name, equals, column = option.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise ConfigError(f"--column {option!r} is not NAME=COLUMN.", "For example: --column question=Query")
        columns[name.strip()] = column.strip()
    return columns
