"""`vivace release`: what can be served."""

from typing import Annotated

import typer

from vivace.cli.options import HERE, Json, ProjectDir

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List and show releases.")


@app.command("list")
def list_(project: ProjectDir = HERE, as_json: Json = False) -> None:
    """List the project's releases, newest first."""
    from rich.table import Table

    from vivace.cli.screen import out, print_json
    from vivace.loop.releases import list_releases

    found = list_releases(project)
    if as_json:
        print_json(found)
        return
    table = Table("release", "name", "candidate", "MB", "made", title="Releases", title_justify="left")
    for item in found:
        facts = item.facts
        made = item.origin.created_at[:16].replace("T", " ")
        table.add_row(item.short_id, facts["name"], facts["candidate"], f"{item.size_bytes / 1e6:,.0f}", made)
    out.print(table if found else "No release yet: run `vivace run`.")


@app.command()
def show(
    release: Annotated[str, typer.Argument(help="First digits of the release's id; empty: the newest.")] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="Folder of the project.")] = ".",
    as_json: Json = False,
) -> None:
    """Show a release: its model, scorecard and verdict."""
    from pathlib import Path

    from vivace.cli.results import print_cards, print_verdict
    from vivace.cli.screen import out, print_json
    from vivace.loop.releases import find_release

    found = find_release(Path(project), release)
    if as_json:
        print_json(found)
        return
    model = found.candidate.model
    out.print(f"[bold]{found.name}[/bold] {found.id[:12]}")
    out.print(
        f"  {found.candidate.name}: {model.weights} on {found.candidate.engine}, licence {model.license or 'unknown'}"
    )
    out.print(f"  system prompt: {found.candidate.chain.get('system', 'none')}")
    if found.test_sha256:
        out.print(f"  test set: sha256 {found.test_sha256[:16]}…")
    out.print(f"  files: {found.path}")
    print_cards([found.scorecard])
    if found.scorecard.verdict:
        print_verdict(found.scorecard.verdict)
