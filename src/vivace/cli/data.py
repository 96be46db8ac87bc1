"""`vivace data`: the loop up to and including `data`."""

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

app = typer.Typer(add_completion=False)


@app.command()
def data(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Read, clean and split the conversations; tell what was dropped and why."""
    from vivace.cli.results import print_stage

    print_stage("data", project, change or [], as_json=as_json, quiet=quiet)
