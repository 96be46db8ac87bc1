"""`vivace evaluate judge`: a model judges answers, once it was measured beside people."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, Quiet

if TYPE_CHECKING:
    from vivace.evaluate.judge import Calibration, JudgeReport

Project = Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")]


def judge(
    candidates: Annotated[
        list[str] | None, typer.Argument(help="Evaluated candidates to judge.", show_default="all of them")
    ] = None,
    against: Annotated[str, typer.Option(help="The candidate they are judged against; empty: the base.")] = "",
    ratings: Annotated[
        Path | None, typer.Option(help="Ratings or comparisons by people, JSON Lines, beside the dataset's own.")
    ] = None,
    model: Annotated[str, typer.Option("--judge", help="The judge; as model in [evaluate.judge].")] = "",
    project: Project = HERE,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model as a judge beside people; where it agrees with them, have it judge the candidates."""
    import json

    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.evaluate.judging import judge_project

    changes = [*(change or []), *([f"evaluate.judge.model={json.dumps(model)}"] if model else [])]
    report, made = judge_project(
        project,
        TerminalProgress(quiet),
        names=candidates or (),
        against=against,
        ratings=ratings,
        changes=changes,
    )
    if as_json:
        print_json(report)
    else:
        print_judge(report, made.path)


def print_judge(report: "JudgeReport", folder: Path) -> None:
    """Print what the judge is worth and, where it may speak, what it says."""
    from rich.markup import escape

    from vivace.cli.screen import out

    out.print(f"[bold]Judge {escape(report.judge)}[/bold]: {escape(report.model)} on {report.engine}, by {report.read}")
    for title, found in (("Pairs", report.pairs), ("Scores", report.ratings)):
        out.print(f"{title}. {escape(found.sentence)}", style="" if found.trusted else "yellow")
        for note in found.notes:
            out.print(f"  {escape(note)}")
        _print_figures(found)
    for note in report.notes:
        out.print(escape(note))
    for rate in report.win_rates:
        low, high = rate.rate.interval.low, rate.rate.interval.high
        out.print(
            f"{escape(rate.candidate)} against {escape(rate.baseline)}: win rate {rate.rate.value:.3f} "
            f"[{low:.3f}, {high:.3f}], {rate.wins} won, {rate.ties} tied, {rate.losses} lost, "
            f"p = {rate.p_adjusted:.4f}: {rate.outcome}",
            markup=False,
        )
    for each in report.scored:
        for score, gap in zip(each.scores, each.comparisons, strict=True):
            out.print(
                f"{each.candidate}, {score.metric}: {score.value:.2f} of 5 [{score.interval.low:.2f}, "
                f"{score.interval.high:.2f}], {gap.difference:+.2f} against {gap.baseline} "
                f"[{gap.interval.low:+.2f}, {gap.interval.high:+.2f}]: {gap.outcome}",
                markup=False,
            )
    out.print(f"  files: {folder}")


def _print_figures(found: "Calibration") -> None:
    from rich import box
    from rich.table import Table

    from vivace.cli.screen import out
    from vivace.evaluate.judge.page import figure_rows

    rows = figure_rows(found)
    if found.unreadable:
        out.print(f"  {found.unreadable:,} verdicts could not be read and count nowhere.")
    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(f"on {found.count:,} opinions, {found.groups:,} independent", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out.print(table)
