"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ProjectDir = Annotated[
    Path, typer.Argument(help="Folder of the project, or its vivace.toml.", show_default="the current folder")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Use another value than vivace.toml's; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

HERE = Path()
