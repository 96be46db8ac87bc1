"""`vivace bench`: the loop up to and including `bench`."""

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

app = typer.Typer(add_completion=False)


@app.command()
def bench(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Measure every candidate's speed side by side."""
    from vivace.cli.results import print_stage

    print_stage("bench", project, change or [], as_json=as_json, quiet=quiet)
