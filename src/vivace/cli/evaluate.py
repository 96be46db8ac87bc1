"""`vivace evaluate`: the loop up to and including `evaluate`, and everything else that is asked about quality."""

import typer

from vivace.cli.options import HERE, Changes, DefaultGroup, Json, ProjectDir, Quiet

app = typer.Typer(
    cls=DefaultGroup,
    add_completion=False,
    help="Score every candidate on the held-out examples (`vivace evaluate` alone), compare, judge, probe.",
)


@app.command()
def run(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Score every candidate on the held-out examples and compare it with the base."""
    from vivace.cli.results import print_stage

    print_stage("evaluate", project, change or [], as_json=as_json, quiet=quiet)


@app.command()
def diff(project: ProjectDir = HERE) -> None:
    """Compare two."""
