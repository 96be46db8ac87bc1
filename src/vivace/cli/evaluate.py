"""`vivace evaluate`: the loop up to and including `evaluate`."""

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

app = typer.Typer(add_completion=False)


@app.command()
def evaluate(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Score every candidate on the held-out examples and compare it with the base."""
    from vivace.cli.results import print_stage

    print_stage("evaluate", project, change or [], as_json=as_json, quiet=quiet)
