"""`vivace doctor`: what this machine has and can do."""

from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.options import Json

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    project: Annotated[Path, typer.Argument(help="Folder whose disk and settings are looked at.")] = Path(),
    as_json: Json = False,
) -> None:
    """Say what this machine has and can do, and how to get what is missing."""
    from vivace.cli.screen import out, print_json
    from vivace.loop.doctor import examine

    findings = examine(project)
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            mark = {"ok": "[green]✓[/green]", "warn": "[yellow]![/yellow]", "bad": "[red]✗[/red]"}[finding.state]
            out.print(f"{mark} {finding.what}: {finding.detail}")
            if finding.hint:
                out.print(f"    [dim]{finding.hint}[/dim]")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)
