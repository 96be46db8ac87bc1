"""`vivace compress`: the loop up to and including `compress`, and the search for a plan that meets goals."""

from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet
from vivace.errors import ConfigError

if TYPE_CHECKING:
    from vivace.loop.compress.search import Found

app = typer.Typer(add_completion=False)

Budgets = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="LIMIT", help='Find a plan within a limit: "size<60MB", "parameters<70M".'),
]
Speedup = Annotated[
    float | None, typer.Option("--speedup", metavar="TIMES", help="Find a plan that decodes so many times as fast.")
]
Quality = Annotated[
    float | None,
    typer.Option(
        "--quality",
        metavar="SHARE",
        help="Share of token F1 and ROUGE-L that a plan must keep.",
        show_default="0.99",
    ),
]
Tries = Annotated[
    int | None,
    typer.Option("--tries", min=1, max=20, help="Make and measure at most so many plans.", show_default="3"),
]
Measure = Annotated[bool, typer.Option("--measure", help="Measure every step of every plan, and write compress.html.")]


@app.command()
def compress(
    project: ProjectDir = HERE,
    change: Changes = None,
    budget: Budgets = None,
    speedup: Speedup = None,
    quality: Quality = None,
    tries: Tries = None,
    measure: Measure = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prune, trim and quantize the tuned model for each engine, or find the plan that meets a goal."""
    if budget or speedup is not None:
        _find(project, change or [], budget or [], speedup, quality, tries, as_json=as_json, quiet=quiet)
    elif quality is not None or tries is not None:
        raise ConfigError(
            "--quality and --tries belong to a search, and no goal is named.",
            'Add --speedup 2 or --budget "size<60MB".',
        )
    elif measure:
        _measure(project, change or [], as_json=as_json, quiet=quiet)
    else:
        from vivace.cli.results import print_stage

        print_stage("compress", project, change or [], as_json=as_json, quiet=quiet)


def _find(
    project: ProjectDir,
    change: list[str],
    budget: list[str],
    speedup: float | None,
    quality: float | None,
    tries: int | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.compress.plans.goals import read_goals
    from vivace.loop.compress.report import find
    from vivace.loop.compress.search import TRIES
    from vivace.loop.project import open_project

    goals = read_goals(budget, speedup, quality)
    with open_project(project, TerminalProgress(quiet), changes=change) as opened:
        found, page = find(opened, goals, tries or TRIES)
    if as_json:
        from vivace.loop.compress.search import as_json as told

        print_json(told(found) | {"page": str(page)})
        return
    _print(found)
    _point_to(page)


def _print(found: "Found") -> None:
    from rich.markup import escape

    from vivace.cli.screen import out
    from vivace.loop.compress.measure import tell

    for line in tell(found.measured):
        out.print(escape(line))
    for number, each in enumerate(found.tries, start=1):
        tone = "green" if each.outcome == "met" else "yellow" if each.outcome == "unproven" else "red"
        out.print(f"[{tone}]try {number}: {escape(each.told)}[/{tone}]")
    out.print(escape(found.ended))
    if found.plan:
        out.print("To make it a candidate, put this into vivace.toml and run `vivace run`:")
        out.print(escape(found.plan))


def _measure(project: ProjectDir, change: list[str], *, as_json: bool, quiet: bool) -> None:
    from rich.markup import escape

    from vivace.cli.screen import TerminalProgress, out, print_json
    from vivace.loop.compress.measure import tell
    from vivace.loop.compress.report import measure_plans
    from vivace.loop.project import open_project

    with open_project(project, TerminalProgress(quiet), changes=change) as opened:
        measured, page = measure_plans(opened)
    if as_json:
        print_json(measured)
        return
    for line in tell(measured):
        out.print(escape(line))
    _point_to(page)


def _point_to(page: object) -> None:
    from vivace.cli.screen import out

    out.print(f"The whole report: {page}")
