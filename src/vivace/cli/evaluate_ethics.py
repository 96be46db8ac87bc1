"""`vivace evaluate ethics`: what tuning and compressing did to fairness, safety and secrets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, Quiet

if TYPE_CHECKING:
    from vivace.domain import Reason
    from vivace.evaluate.ethics import EthicsReport
    from vivace.loop.evaluate.ethics import Exposed

Project = Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")]


def ethics(
    candidates: Annotated[
        list[str] | None,
        typer.Argument(help="Candidates to probe beside the base.", show_default="the newest release's"),
    ] = None,
    data: Annotated[
        bool, typer.Option("--data", help="Only look at the training data: its secrets, and who it speaks of.")
    ] = False,
    project: Project = HERE,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Probe a candidate and the base for bias, harm and leaks, and hold what is found against the limits."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.errors import ConfigError
    from vivace.loop.evaluate.ethics import evaluate_ethics, expose

    if data:
        if candidates:
            raise ConfigError("--data asks no candidate.", "Leave one out.")
        exposed = expose(project, TerminalProgress(quiet), changes=change or [])
        if as_json:
            print_json({"secrets": [_veiled(each) for each in exposed.secrets], "mentions": exposed.mentions})
        else:
            print_exposed(exposed)
        return
    reports, reasons, page = evaluate_ethics(
        project, TerminalProgress(quiet), names=candidates or (), changes=change or []
    )
    if as_json:
        print_json({"reports": reports, "reasons": reasons, "page": str(page)})
        return
    for report in reports:
        print_report(report, reasons[report.candidate])
    from vivace.cli.screen import out

    out.print(f"The whole report: {page}")


def print_report(report: "EthicsReport", reasons: "list[Reason]") -> None:
    """Print what differs beyond chance and how it stands against the limits."""
    from rich.markup import escape

    from vivace.cli.screen import out
    from vivace.evaluate.ethics import summary

    out.print(f"[bold]{escape(report.candidate)}[/bold] beside {escape(report.base)}")
    for line in summary(report):
        out.print(f"  {escape(line)}")
    for mention in report.mentions:
        if mention.warning:
            out.print(f"  [yellow]{escape(mention.warning)}[/yellow]")
    for reason in reasons:
        tone = "red" if not reason.met else "yellow" if "unproven" in reason.detail else "green"
        out.print(f"  [{tone}]{escape(reason.requirement)}: {escape(reason.detail)}[/{tone}]")


def print_exposed(exposed: "Exposed") -> None:
    """Print every secret-looking text with its place, and who the data speaks of."""
    from rich.markup import escape

    from vivace.cli.screen import out
    from vivace.evaluate.ethics import by_line

    out.print(f"[bold]{len(exposed.secrets)} secret-looking texts in the training data[/bold]")
    for line in by_line(exposed.secrets):
        out.print(f"  {escape(line)}", soft_wrap=True)
    out.print("[bold]Who it speaks of[/bold]")
    for each in exposed.mentions:
        shares = ", ".join(
            f"{name} {score.value:.0%} \\[{score.interval.low:.0%}, {score.interval.high:.0%}]"
            for name, score in each.shares.items()
        )
        out.print(
            f"  {each.dimension}: {each.mentioning:,} of {each.conversations:,} conversations; {shares or 'none'}"
        )
        if each.warning:
            out.print(f"    [yellow]{escape(each.warning)}[/yellow]")


def _veiled(secret: object) -> dict[str, object]:
    """Return a secret without its text."""
    import msgspec

    told: dict[str, object] = msgspec.to_builtins(secret)
    told["value"] = getattr(secret, "veiled", "")
    return told
