"""How results are printed: candidates, datasets, releases."""

from pathlib import Path
from typing import Any

from rich.table import Table

from vivace.cli.screen import TerminalProgress, out, print_json
from vivace.domain import Score, Scorecard, Verdict
from vivace.loop.project import open_project
from vivace.loop.run import Result
from vivace.loop.run import run as run_loop

QUALITY = (("token_f1", "token F1", 3), ("rouge_l", "ROUGE-L", 3), ("bleu", "BLEU", 1), ("perplexity", "perplexity", 2))


def print_result(result: Result) -> None:
    """Print what a run came to: the table of candidates, the verdicts, the release or the refusal."""
    if result.scorecards:
        out.print(candidate_table(result.scorecards))
    for verdict in result.verdicts:
        print_verdict(verdict)


def candidate_table(cards: list[Scorecard]) -> Table:
    """Return the table of candidates: size, quality with 95 % intervals, speed at the load of the bench."""
    table = Table(title="Candidates on the same held-out examples", title_justify="left", show_lines=False)
    table.add_column("candidate", no_wrap=True)
    table.add_column("MB", justify="right")
    for _metric, label, _digits in QUALITY:
        table.add_column(label, justify="right", no_wrap=True)
    for label in ("TTFT p95 ms", "end to end p50 ms", "tokens/s", "memory MB"):
        table.add_column(label, justify="right")
    for card in cards:
        table.add_row(*_row(card), style="dim" if card.candidate.role == "baseline" else "")
    return table


def score_text(score: Score | None, digits: int, *, against_base: str = "") -> str:
    """Return a score as `0.412 ±0.020`, with a mark for what the comparison with the base said."""
    if score is None:
        return "–"
    half = (score.interval.high - score.interval.low) / 2
    mark = {"better": " [green]▲[/green]", "worse": " [red]▼[/red]", "noise": " ≈"}.get(against_base, "")
    return f"{score.value:.{digits}f} ±{half:.{digits}f}{mark}"


def _row(card: Scorecard) -> list[str]:
    outcomes = {found.metric: found.outcome for found in card.comparisons}
    scores = {score.metric: score for score in card.scores}
    cells = [card.candidate.name, f"{card.size_bytes / 1e6:,.0f}"]
    cells += [score_text(scores.get(m), digits, against_base=outcomes.get(m, "")) for m, _label, digits in QUALITY]
    speed = card.speed
    if speed is None:
        return [*cells, "–", "–", "–", "–"]
    return [
        *cells,
        f"{speed.ttft.p95_ms.value:,.0f}",
        f"{speed.e2e.p50_ms.value:,.0f}",
        f"{speed.output_tokens_per_s:,.0f}",
        f"{speed.peak_memory_bytes / 1e6:,.0f}",
    ]


def print_verdict(verdict: Verdict) -> None:
    """Print whether a candidate meets the objective, and each reason."""
    word = "[green]meets the objective[/green]" if verdict.accepted else "[red]does not meet the objective[/red]"
    out.print(f"{verdict.candidate} {word}")
    for reason in verdict.reasons:
        out.print(f"  {'✓' if reason.met else '✗'} {reason.requirement}: [dim]{reason.detail}[/dim]")


def print_facts(title: str, facts: dict[str, Any]) -> None:
    """Print a stage's facts, one a line; nested ones are indented."""
    out.print(f"[bold]{title}[/bold]")
    for name, value in facts.items():
        out.print(f"  {name.replace('_', ' ')}: {_plain(value)}")


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value) or "none"
    return str(value)


def print_stage(until: str, project: Path, changes: list[str], *, as_json: bool, quiet: bool) -> None:
    """Run the loop up to a stage and print what that stage came to."""
    with open_project(project, TerminalProgress(quiet), changes=changes) as opened:
        result = run_loop(opened, until)
    if as_json:
        print_json(result)
        return
    made = {"data": result.dataset, "train": result.trained, "bench": result.bench}.get(until)
    if made is not None:
        print_facts(f"{until} {made.short_id}", made.facts)
        out.print(f"  files: {made.path}")
    if until == "compress":
        for item in result.candidates:
            out.print(f"{item.name}: {item.model.weights} on {item.engine}, {item.model.path}")
    if result.scorecards:
        out.print(candidate_table(result.scorecards))
