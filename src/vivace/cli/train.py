"""`vivace train`: the loop up to and including `train`, the search for settings, and the runs so far."""

from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.options import HERE, Changes, DefaultGroup, Json, Origin, ProjectDir, Quiet

Project = Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes that share each step; as workers in [train].")
]
RUN_HELP = "First digits of the run's id; empty: the newest."

app = typer.Typer(
    cls=DefaultGroup,
    add_completion=False,
    help="Tune the base model on the dataset (`vivace train` alone), search for better settings, look at the runs.",
)


@app.command()
def run(
    project: ProjectDir = HERE,
    origin: Origin = "",
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Tell time, memory, tokens and cost, and do not train.")
    ] = False,
    workers: Workers = None,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tune the base model on the dataset, or go on from a release with what is new in it."""
    from vivace.cli.results import print_stage

    changes = [*(change or []), *([f"train.workers={workers}"] if workers else [])]
    if estimate:
        from vivace.cli.train_views import print_estimate

        print_estimate(project, changes, origin, as_json=as_json, quiet=quiet)
        return
    print_stage("train", project, changes, as_json=as_json, quiet=quiet, origin=origin)


@app.command()
def search(
    project: ProjectDir = HERE,
    workers: Annotated[int | None, typer.Option(min=1, help="Try so many settings at once.")] = None,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for better settings, train with the best and tell whether they beat the defaults."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.cli.train_views import print_search
    from vivace.loop.searching import search_project

    changes = [*(change or []), *([] if workers is None else [f"train.search.workers={workers}"])]
    found = search_project(project, TerminalProgress(quiet), changes=changes)
    if as_json:
        print_json(found)
    else:
        print_search(found)


@app.command()
def intents(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Teach an encoder (BERT-like) to tell the intent of a user's message."""
    from vivace.cli.encoder_views import print_intents
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.encoders import train_intents

    told = train_intents(project, TerminalProgress(quiet), changes=change or [])
    if as_json:
        print_json(told)
    else:
        print_intents(told)


@app.command()
def reward(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Teach an encoder to score answers, from ratings and pairs."""
    from vivace.cli.encoder_views import print_reward
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.encoders import train_reward

    told = train_reward(project, TerminalProgress(quiet), changes=change or [])
    if as_json:
        print_json(told)
    else:
        print_reward(told)


@app.command()
def against(
    settings: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="Settings of [train] to change.")],
    project: Project = HERE,
    seeds: Annotated[int, typer.Option(help="Train both so many times, each time with another seed.")] = 1,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train with the project's settings and with changed ones, and tell which is better, or that nothing is shown."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.cli.train_views import print_against
    from vivace.loop.against import train_against

    found = train_against(project, settings, TerminalProgress(quiet), seeds=seeds, changes=change or [])
    if as_json:
        print_json(found)
    else:
        print_against(found)


@app.command("list")
def list_(project: ProjectDir = HERE, as_json: Json = False, quiet: Quiet = False) -> None:
    """List the project's training runs, newest first."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.cli.train_views import print_runs
    from vivace.loop.trainings import list_trainings

    found = list_trainings(project, TerminalProgress(quiet))
    if as_json:
        print_json(found)
    else:
        print_runs(found)


@app.command()
def show(
    run: Annotated[str, typer.Argument(help=RUN_HELP)] = "",
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Show a training run: settings, figures, where and from what it was made."""
    from vivace.cli.screen import print_json
    from vivace.cli.train_views import print_run
    from vivace.loop.trainings import find_training

    found = find_training(project, run)
    if as_json:
        print_json(found)
    else:
        print_run(found)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="First digits of the runs' ids.")],
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Compare training runs: settings that differ, ends of the curves, best validation loss."""
    from vivace.cli.screen import print_json
    from vivace.cli.train_views import print_comparison
    from vivace.loop.trainings import compare_trainings

    found = compare_trainings(project, runs)
    if as_json:
        print_json(found)
    else:
        print_comparison(found)


@app.command()
def rerun(
    run: Annotated[str, typer.Argument(help=RUN_HELP)] = "",
    project: Project = HERE,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train once more as a run was trained, and tell whether the weights are the same."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.cli.train_views import print_rerun
    from vivace.loop.trainings import rerun as train_again

    done = train_again(project, run, TerminalProgress(quiet), changes=change or [])
    if as_json:
        print_json(done)
    else:
        print_rerun(done)
