"""`vivace parity`: is the model that is served the model that was trained?"""

from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

if TYPE_CHECKING:
    from vivace.parity import ParityReport

app = typer.Typer(add_completion=False, help="Prove that the model that is served is the model that was trained.")


@app.command()
def parity(
    project: ProjectDir = HERE,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            "-c",
            metavar="NAME",
            help="Prove this candidate, or `release` for the newest release; may be repeated.",
            show_default="all candidates and the newest release",
        ),
    ] = None,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Hold a server that runs already against the training instead.")
    ] = "",
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="The model's name at --url.", show_default="its only one")
    ] = "",
    key: Annotated[str, typer.Option("--key", metavar="env:NAME", help="The API key for --url.")] = "",
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare tokens, log-probabilities and ends of answers from training to HTTP; exit code 8 where they differ."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.errors import ConfigError, ReleaseRefused
    from vivace.loop.parity import prove_project, prove_server

    if not url and (model or key):
        raise ConfigError("--model and --key say how to ask a server.", "Name the server with --url.")
    if url and candidate:
        raise ConfigError("--url compares a server with the newest release.", "Leave --candidate out.")
    progress = TerminalProgress(quiet)
    if url:
        reports = [prove_server(project, url, progress, model=model, api_key=key, changes=change or ())]
    else:
        reports = prove_project(project, progress, names=candidate or (), changes=change or ())
    if as_json:
        print_json({"met": all(report.met for report in reports), "reports": reports})
    else:
        for report in reports:
            print_report(report)
    broken = [report.candidate for report in reports if not report.met]
    if broken:
        several = f"{len(broken)} candidates do not answer as the trained model does: {', '.join(broken)}."
        raise ReleaseRefused(
            f"{broken[0]} does not answer as the trained model does." if len(broken) == 1 else several,
            "The table above says where they part and what to do." if not as_json else "",
        )


def print_report(report: "ParityReport") -> None:
    """Print every check at every hop, and what to do about those that differ."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from vivace.cli.screen import out
    from vivace.parity.findings import rows

    out.print(
        f"[bold]{escape(report.candidate)}[/bold]: {escape(' → '.join(report.hops))}; "
        f"{report.conversations} conversations, {report.scored} scored"
    )
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("hop", "check", "", "found"):
        table.add_column(name, overflow="fold")
    for hop, check, mark, text in rows(report.findings):
        tone = "green" if mark == "same" else "red"
        table.add_row(escape(hop), escape(check), f"[{tone}]{mark}[/{tone}]", escape(text))
    out.print(table)
    for finding in report.broken:
        if finding.hint:
            out.print(f"  [yellow]{escape(finding.hop)}, {escape(finding.check)}: {escape(finding.hint)}[/yellow]")
    for note in report.notes:
        out.print(f"  {escape(note)}")
