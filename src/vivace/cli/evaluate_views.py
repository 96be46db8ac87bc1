"""How differences of candidates are printed."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from vivace.cli.screen import out
from vivace.evaluate.difference import Difference
from vivace.loop.evaluate.diff import NAME
from vivace.loop.evaluate.diff_page import MARKS, figures, power_sentence

STYLES = {"better": "green", "worse": "red", "gains": "green", "breaks": "red", "suspect": "yellow"}
_SHOWN = 3


def print_difference(found: Difference, project: Path) -> None:
    """Print the sentence, the metrics, the slices that moved, and the answers that got worse."""
    style = {"better": "green", "worse": "red", "unproven": "yellow"}.get(found.outcome, "")
    out.print(escape(found.sentence), style=style)
    table = Table("metric", title=f"{found.candidate} minus {found.baseline}", title_justify="left")
    for label in ("change", _level(found), "adjusted p", "better/equal/worse"):
        table.add_column(label, justify="right", no_wrap=True)
    tallies = {tally.metric: tally for tally in found.tallies}
    for each in found.comparisons:
        digits = 2 if each.unit else 3
        tally = tallies.get(each.metric)
        table.add_row(
            each.metric,
            f"{each.difference:+.{digits}f}",
            f"{each.interval.low:+.{digits}f} to {each.interval.high:+.{digits}f}",
            f"{each.p_adjusted:.3g}",
            f"{tally.better}/{tally.equal}/{tally.worse}" if tally else "–",
            style=STYLES.get(each.outcome, ""),
        )
    out.print(table)
    moved = [part for part in found.slices if part.verdict in ("breaks", "suspect", "gains")]
    for part in moved:
        out.print(
            f"{MARKS[part.verdict]}: {escape(f'{part.field} {part.value}')}, {part.count} examples, "
            f"{escape(figures(part))} {found.metric}",
            style=STYLES[part.verdict],
        )
    if not found.broken:
        out.print("No slice is worse beyond chance.")
    for pair in found.regressions[:_SHOWN]:
        out.print(f"[red]{pair.change:+.2f}[/red] {escape(pair.id)}: {escape(pair.question)}")
        answers = {"reference": pair.reference, found.candidate: pair.candidate, found.baseline: pair.baseline}
        for name, text in answers.items():
            out.print(f"    [dim]{escape(name)}:[/dim] {escape(text)}")
    out.print(power_sentence(found.power))
    folder = project if project.is_dir() else project.parent
    out.print(f"All of it: {folder / NAME}")


def _level(found: Difference) -> str:
    return f"{found.comparisons[0].interval.level:.0%} interval"
