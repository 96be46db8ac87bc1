"""`vivace evaluate retrieval` and `vivace evaluate grounding`: what a search finds, and whether answers keep to it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.options import Json, Quiet

if TYPE_CHECKING:
    from vivace.evaluate.grounding import GroundingReport
    from vivace.loop.evaluate.grounding import RetrievalReport

SHOWN_CLAIMS = 5
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write the report to.")]


def retrieval(
    run: Annotated[Path, typer.Argument(help="What the search found: a TREC run or JSON Lines.")],
    qrels: Annotated[Path, typer.Argument(help="What is relevant: TREC qrels or JSON Lines.")],
    against: Annotated[Path | None, typer.Option(help="Another run, to compare with on the same queries.")] = None,
    at: Annotated[list[int] | None, typer.Option(min=1, help="Cut; may be repeated.", show_default="1, 5, 10")] = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Score a search: recall, precision, nDCG, MRR, MAP, each with an interval."""
    from vivace.cli.screen import print_json
    from vivace.loop.evaluate.grounding import evaluate_retrieval

    report = evaluate_retrieval(run, qrels, against, cuts=at, out=out)
    if as_json:
        print_json(report)
    else:
        print_retrieval(report)


def grounding(
    answers: Annotated[Path, typer.Argument(help='JSON Lines: {"answer": text, "sources": [text, …]}.')],
    embedder: Annotated[
        str, typer.Option(help="What compares meanings besides, such as minilm; none: words, numbers and names alone.")
    ] = "none",
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Look up in its sources what each answer claims, and mark what is not there."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.evaluate.grounding import evaluate_grounding

    report = evaluate_grounding(answers, TerminalProgress(quiet), embedder=embedder, out=out)
    if as_json:
        print_json(report)
    else:
        print_grounding(report, out)


def print_retrieval(report: "RetrievalReport") -> None:
    """Print a table of measures, with the other run beside it if there is one."""
    from rich import box
    from rich.table import Table

    from vivace.cli.screen import out

    run = report.run
    out.print(f"{len(run.queries):,} judged queries, 95 % intervals")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("measure", no_wrap=True)
    table.add_column(run.name, justify="right", overflow="fold")
    if report.against is not None:
        table.add_column(report.against.name, justify="right", overflow="fold")
        table.add_column("difference", justify="right")
    for place, score in enumerate(run.scores):
        cells = [f"{score.value:.3f} [{score.interval.low:.3f}, {score.interval.high:.3f}]"]
        if report.against is not None:
            other, gap = report.against.scores[place], report.comparisons[place]
            cells.append(f"{other.value:.3f} [{other.interval.low:.3f}, {other.interval.high:.3f}]")
            cells.append(f"{gap.difference:+.3f} {gap.outcome}")
        table.add_row(score.metric, *cells)
    out.print(table)
    for each in (run, report.against):
        if each is not None and each.unanswered:
            out.print(f"{each.name} has no result for {len(each.unanswered):,} judged queries; they count 0.")
        if each is not None and each.unjudged:
            out.print(f"{each.name} has {len(each.unjudged):,} queries without a relevant document; left out.")


def print_grounding(report: "GroundingReport", folder: Path | None) -> None:
    """Print the figures and the first claims that are not supported."""
    from rich.markup import escape

    from vivace.cli.screen import out
    from vivace.evaluate.grounding.page import BLIND, lead

    out.print(escape(lead(report)))
    bad = [
        (answer.id, claim)
        for answer in report.answers
        for claim in answer.claims
        if claim.label in ("contradicted", "unsupported")
    ]
    for name, claim in sorted(bad, key=lambda item: item[1].probability)[:SHOWN_CLAIMS]:
        missing = f" (in no source: {', '.join(claim.missing)})" if claim.missing else ""
        out.print(f"  {name}: {claim.label}: {claim.text}{missing}", markup=False)
    if len(bad) > SHOWN_CLAIMS:
        out.print(f"  and {len(bad) - SHOWN_CLAIMS:,} more")
    out.print(BLIND, style="dim")
    if folder is not None:
        out.print(f"  files: {folder}")
