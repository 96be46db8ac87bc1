"""`vivace evaluate`: the loop up to and including `evaluate`, and everything else that is asked about quality."""

from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.evaluate_ethics import ethics
from vivace.cli.evaluate_general import general, task
from vivace.cli.evaluate_grounding import grounding, retrieval
from vivace.cli.evaluate_judge import judge
from vivace.cli.evaluate_scales import scales
from vivace.cli.options import HERE, Changes, DefaultGroup, Json, ProjectDir, Quiet

SIDE = "Candidate, release (the newest), id or folder of one, model, or folder of an evaluation; @FILE: a prompt."

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
def diff(
    first: Annotated[str, typer.Argument(help=SIDE)],
    second: Annotated[str, typer.Argument(help="What to compare it with.")],
    project: Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")] = HERE,
    metric: Annotated[str, typer.Option(help="Metric that decides; empty: quality_metric in [release].")] = "",
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two candidates, releases, prompts or models on the same test examples."""
    from vivace.cli.evaluate_views import print_difference
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.evaluate.diff import compare_two

    found = compare_two(project, first, second, TerminalProgress(quiet), metric=metric, changes=change or [])
    if as_json:
        print_json(found)
    else:
        print_difference(found, project)


for command in (judge, ethics, general, task, scales, retrieval, grounding):
    app.command()(command)
