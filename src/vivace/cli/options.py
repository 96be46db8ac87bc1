"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

ProjectDir = Annotated[
    Path, typer.Argument(help="Folder of the project, or its vivace.toml.", show_default="the current folder")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Use another value than vivace.toml's; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Origin = Annotated[
    str,
    typer.Option(
        "--from", metavar="RELEASE", help="Go on from a release or training run (or `current`) with what is new."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

HERE = Path()


class DefaultGroup(TyperGroup):
    """A group that runs its first command unless another one is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the first command before arguments that name none."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = [next(iter(self.commands)), *args]
        return list(super().parse_args(ctx, args))
