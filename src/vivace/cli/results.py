"""How results are printed: candidates, datasets, releases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from vivace.cli.screen import TerminalProgress, out, print_json
from vivace.domain import Score, Scorecard, Speed, Verdict
from vivace.loop.project import open_project
from vivace.loop.report import further_metrics
from vivace.loop.run import Result
from vivace.loop.run import run as run_loop
from vivace.loop.speed import read_speeds

ABREAST = 4
"""Metrics that a terminal of 80 columns has room for."""
QUALITY = (("token_f1", "token F1", 3), ("rouge_l", "ROUGE-L", 3), ("bleu", "BLEU", 1), ("perplexity", "perplexity", 1))


def print_result(result: Result) -> None:
    """Print what a run came to: the tables of candidates, the verdicts, the release or the refusal."""
    print_cards(result.scorecards)
    for verdict in result.verdicts:
        print_verdict(verdict)


def print_cards(cards: list[Scorecard]) -> None:
    """Print the candidates' quality and, where it was measured, their speed."""
    if not cards:
        return
    out.print(
        _scores("Quality on the same held-out examples, ± 95 % (▲ better than base, ▼ worse, ≈ noise)", QUALITY, cards)
    )
    further = [(name, label, 3) for name, label, _meaning in further_metrics(cards)]
    for place in range(0, len(further), ABREAST):
        out.print(_scores("Further metrics", further[place : place + ABREAST], cards))
    measured = {card.candidate.name: card.speed for card in cards if card.speed is not None}
    if measured:
        print_speeds(measured, {card.candidate.name: card.size_bytes for card in cards})


def _scores(title: str, metrics: Sequence[tuple[str, str, int]], cards: Sequence[Scorecard]) -> Table:
    """Return a table with a row per candidate; perplexity goes without its interval, which 80 columns cannot hold."""
    table = _table(title)
    for _metric, label, _digits in metrics:
        table.add_column(label, justify="right", no_wrap=True)
    for card in cards:
        outcomes = {found.metric: found.outcome for found in card.comparisons}
        scores = {score.metric: score for score in card.scores}
        cells = [
            f"{scores[name].value:,.{digits}f}"
            if name == "perplexity" and name in scores
            else score_text(scores.get(name), digits, outcomes.get(name, ""))
            for name, _label, digits in metrics
        ]
        table.add_row(card.candidate.name, *cells, style=_style(card.candidate.role))
    return table


def print_speeds(speeds: dict[str, Speed], sizes: dict[str, int]) -> None:
    """Print latency, throughput, size on disk and peak memory."""
    out.print(speed_table(speeds, sizes))


def speed_table(speeds: dict[str, Speed], sizes: dict[str, int]) -> Table:
    """Return the table of `print_speeds`; on 80 columns no figure is cut."""
    table = _table("Speed, caches off: p50/p95 in ms; size on disk/peak memory in MB")
    for label in ("first token", "per token", "end to end", "tokens/s", "MB"):
        table.add_column(label, justify="right", no_wrap=True)
    for name, speed in speeds.items():
        pairs = [f"{item.p50_ms.value:,.0f}/{item.p95_ms.value:,.0f}" for item in (speed.ttft, speed.tpot, speed.e2e)]
        disk = f"{sizes[name] / 1e6:,.0f}" if name in sizes else "–"
        memory = f"{disk}/{speed.peak_memory_bytes / 1e6:,.0f}"
        table.add_row(name, *pairs, f"{speed.output_tokens_per_s:,.0f}", memory)
    return table


def print_ratios(ratios: list[dict[str, Any]]) -> None:
    """Print how many times faster end to end than the baseline each candidate is."""
    for ratio in ratios:
        if ratio["metric"] == "e2e_p50_ms":
            work = "as users meet it" if ratio["workload"] == "natural" else "same number of tokens"
            figure = f"{ratio['ratio']:.1f}x [{ratio['low']:.1f}, {ratio['high']:.1f}]"
            out.print(f"{ratio['candidate']}: {figure} faster end to end than {ratio['baseline']} ({work})")


def score_text(score: Score | None, digits: int, outcome: str = "") -> str:
    """Return a score as `0.412 ±0.020`, with a mark for what the comparison with the base said."""
    if score is None:
        return "–"
    half = (score.interval.high - score.interval.low) / 2
    mark = {"better": "[green]▲[/green]", "worse": "[red]▼[/red]", "noise": "≈"}.get(outcome, " ")
    return f"{score.value:.{digits}f} ±{half:.{digits}f} {mark}"


def _table(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("candidate", overflow="fold", min_width=8)  # where there is too little room, names go on below
    return table


def _style(role: str) -> str:
    return "dim" if role == "baseline" else ""


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


def print_forgetting(result: Result) -> None:
    """Say, after an update, what was forgotten and what was learned."""
    if result.forgetting is not None:
        told = escape(result.forgetting.facts["sentence"])
        out.print(f"[yellow]{told}[/yellow]" if result.forgetting.facts["forgets"] else told)


def run_stage(until: str, project: Path, changes: list[str], *, quiet: bool, origin: str = "") -> Result:
    """Run the loop up to a stage."""
    with open_project(project, TerminalProgress(quiet), changes=changes) as opened:
        return run_loop(opened, until, origin)


def print_stage(until: str, project: Path, changes: list[str], *, as_json: bool, quiet: bool, origin: str = "") -> None:
    """Run the loop up to a stage and print what that stage came to."""
    result = run_stage(until, project, changes, quiet=quiet, origin=origin)
    if as_json:
        print_json(result)
        return
    if until == "train" and result.trained is not None:
        print_facts(f"{until} {result.trained.short_id}", result.trained.facts)
        out.print(f"  files: {result.trained.path}")
        if result.distilled is not None:
            print_facts(f"distill {result.distilled.short_id}", result.distilled.facts)
        if result.aligned is not None:
            print_facts(f"align {result.aligned.short_id}", result.aligned.facts)
        print_forgetting(result)
    if until == "compress":
        for item in result.candidates:
            out.print(f"{item.name}: {item.model.weights} on {item.engine}, {item.model.path}")
    if result.bench is not None:
        print_speeds(read_speeds(result.bench), {card.candidate.name: card.size_bytes for card in result.scorecards})
        print_ratios(result.bench.facts["ratios"])
    else:
        print_cards(result.scorecards)
