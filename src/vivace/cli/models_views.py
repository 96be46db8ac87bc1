"""How the comparison of base models is printed."""

from rich import box
from rich.markup import escape
from rich.table import Table

from vivace.cli.screen import out
from vivace.domain import Comparison
from vivace.loop.choosing import Choice, Entrant
from vivace.loop.recommending import Verdict, rates
from vivace.models.prospects.licenses import about_use

NAME_WIDTH = 24


def print_choice(choice: Choice) -> None:
    """Print what is known of each model, what was measured, who is left out, and the recommendation."""
    _print_known(choice.entrants)
    if choice.measured:
        _print_measured(choice)
    for entrant in choice.entrants:
        name = escape(entrant.known.label)
        if entrant.known.license or not entrant.known.problem:
            told = about_use(entrant.known.commercial)
            out.print(f"{name}: licence {escape(entrant.known.license or 'not stated')}, {told}.")
        if entrant.left_out:
            out.print(f"[yellow]{name} is left out:[/yellow] {escape(entrant.left_out)}")
        elif entrant.untrainable:
            out.print(f"[yellow]{name} cannot be trained:[/yellow] {escape(entrant.untrainable)}")
    if choice.verdict is not None:
        _print_verdict(choice, choice.verdict)
    if choice.note:
        out.print(escape(choice.note))
    if choice.report:
        out.print(f"  files: {choice.report}")


def _print_known(entrants: tuple[Entrant, ...]) -> None:
    table = _table("Models")
    for label in ("parameters", "context", "licence", "MB"):
        table.add_column(label, justify="left" if label == "licence" else "right", no_wrap=True)
    table.add_column("architecture", overflow="ellipsis", no_wrap=True)
    for entrant in entrants:
        known = entrant.known
        size = known.size_bytes or known.download_bytes
        table.add_row(
            _name(known.label),
            "–" if known.parameters is None else _millions(known.parameters),
            "–" if known.context_length is None else f"{known.context_length:,}",
            escape(known.license or "–"),
            f"{size / 1e6:,.0f}" if size else "–",
            "–" if known.problem else escape(known.architecture),
            style="dim" if entrant.left_out else "",
        )
    out.print(table)


def _print_measured(choice: Choice) -> None:
    level = next(iter(choice.verdict.scores.values())).interval.level if choice.verdict else 0.95
    table = _table(f"On your validation conversations, as served (int8 where it can be), ± {level:.0%}")
    for label in ("tok/word", "bits/byte", "read/s", "write/s", "s/answer", "MB"):
        table.add_column(label, justify="right", no_wrap=True)
    fertility = {each.known.label: each.tokens_per_word for each in choice.entrants}
    for item in choice.measured:
        if item.error:
            continue
        read, write = rates(item)
        score = choice.verdict.scores.get(item.name) if choice.verdict else None
        seconds = choice.verdict.answer_s.get(item.name) if choice.verdict else None
        words = fertility.get(item.name)
        table.add_row(
            _name(item.name),
            "–" if words is None else f"{words:.2f}",
            "–" if score is None else f"{score.value:.3f} ±{(score.interval.high - score.interval.low) / 2:.3f}",
            "–" if read is None else f"{read:,.0f}",
            "–" if write is None else f"{write:,.0f}",
            "–" if seconds is None else f"{seconds:,.2f}",
            f"{item.peak_memory_bytes / 1e6:,.0f}",
        )
    out.print(table)
    out.print("[dim]bits/byte of your reference answers: lower is better; read/s, write/s: tokens per second.[/dim]")


def _print_verdict(choice: Choice, verdict: Verdict) -> None:
    best = min(verdict.scores, key=lambda name: verdict.scores[name].value)
    for each in verdict.comparisons:
        if best in (each.candidate, each.baseline):
            out.print(escape(_difference(each, best)))
    chosen = verdict.choice
    for ratio in verdict.ratios:
        if ratio.baseline == chosen:
            low, high = ratio.interval.low, ratio.interval.high
            out.print(
                escape(
                    f"{ratio.candidate} takes {ratio.ratio:.2f}x [{low:.2f}, {high:.2f}] as long as {chosen} for the "
                    "same answer."
                )
            )
    for name, score in choice.answers.items():
        half = (score.interval.high - score.interval.low) / 2
        out.print(escape(f"{name}: token F1 of its answers {score.value:.3f} ±{half:.3f}."))
    for pair in choice.answer_comparisons:
        out.print(escape(_points(pair)))
    for name, other in verdict.dominated.items():
        out.print(escape(f"{name} is out: {other} is better and faster."))
    out.print(f"[bold]Recommended: {escape(chosen)}.[/bold] {escape(' '.join(verdict.reasons))}")
    out.print("These are the untouched bases: training may change their order.")


def _difference(each: Comparison, best: str) -> str:
    other, sign = (each.baseline, 1) if each.candidate == best else (each.candidate, -1)
    bounds = sorted((sign * each.interval.low, sign * each.interval.high))
    figures = f"{sign * each.difference:+.3f} [{bounds[0]:+.3f}, {bounds[1]:+.3f}] bits per byte"
    if each.outcome == "noise":
        return f"{best} and {other} cannot be told apart: {figures} (adjusted p {each.p_adjusted:.2g})."
    return f"{best} is better than {other} by {figures} (adjusted p {each.p_adjusted:.2g})."


def _points(each: Comparison) -> str:
    low, high = 100 * each.interval.low, 100 * each.interval.high
    figures = f"{100 * each.difference:+.1f} points [{low:+.1f}, {high:+.1f}]"
    word = {"noise": "not told apart from", "better": "better than", "worse": "worse than"}[each.outcome]
    return f"{each.candidate} is {word} {each.baseline} in token F1: {figures}."


def _table(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("model", no_wrap=True, max_width=NAME_WIDTH, overflow="ellipsis")
    return table


def _name(label: str) -> str:
    return escape(label if len(label) <= NAME_WIDTH else f"…{label[1 - NAME_WIDTH :]}")


def _millions(count: int) -> str:
    if count >= 1e12:
        return f"{count / 1e12:,.0f} T"
    return f"{count / 1e9:,.1f} B" if count >= 1e9 else f"{count / 1e6:,.1f} M"
