"""The difference of two candidates for people: a page with plots, and the same in Markdown."""

from collections.abc import Sequence
from typing import Any

from vivace.domain import Comparison
from vivace.evaluate.difference import Difference, Pair, Power
from vivace.evaluate.report import cell
from vivace.evaluate.slices import FEWEST, SliceChange
from vivace.loop import pages
from vivace.loop.plots import COLORS, INK, figure

TONES = {"better": "", "as good": "", "unproven": "open", "worse": "refused"}
TITLES = {"better": "Better", "as good": "As good", "unproven": "Not shown either way", "worse": "Worse"}
MARKS = {"breaks": "worse", "gains": "better", "suspect": "look at it", "holds": "", "few": "too few to tell"}


def render(found: Difference) -> str:
    """Return the page."""
    told = [part for part in found.slices if part.change is not None]
    return pages.render(
        "evaluate/diff.html.jinja",
        {"metrics": metrics_plot(found), "slices": slices_plot(told, found.metric)},
        found=found,
        title=TITLES[found.outcome],
        tone=TONES[found.outcome],
        rows=[_row(found, each) for each in found.comparisons],
        slices=[(part, figures(part), MARKS[part.verdict]) for part in told],
        few=len(found.slices) - len(told),
        fewest=FEWEST,
        power=power_sentence(found.power),
        examples=[("Answers that got worse", found.regressions), ("Answers that got better", found.gains)],
    )


def markdown(found: Difference) -> str:
    """Return the same to read in a terminal or a pull request."""
    lines = [f"# {found.candidate} against {found.baseline}", "", found.sentence, "", power_sentence(found.power), ""]
    lines += ["| metric | change | interval | adjusted p | |", "| --- | ---: | --- | ---: | --- |"]
    for each in found.comparisons:
        row = _row(found, each)
        lines.append(
            f"| {each.metric} | {row['change']} | {row['interval']} | {each.p_adjusted:.3g} | {each.outcome} |"
        )
    lines += ["", "| slice | examples | change | |", "| --- | ---: | --- | --- |"]
    lines += [
        f"| {cell(f'{part.field}: {part.value}')} | {part.count} | {figures(part)} | {MARKS[part.verdict]} |"
        for part in found.slices
    ]
    for title, shown in (("got worse", found.regressions), ("got better", found.gains)):
        if shown:
            lines += ["", f"## Answers that {title}", ""]
            lines += [
                f"| change | question | reference | {found.candidate} | {found.baseline} |",
                "| ---: |" + " --- |" * 4,
            ]
            lines += [_pair(each) for each in shown]
    return "\n".join(lines) + "\n"


def power_sentence(power: Power) -> str:
    """Say what so many examples can show."""
    more = ", ".join(
        f"{needed:,} examples would show {points}" for points, needed in power.needed.items() if needed > power.count
    )
    seen = f"With {power.count} examples a difference in {power.metric} under {power.detectable:.3g} {power.unit} "
    return seen + "is missed more often than 2 times in 10" + (f"; {more} {power.unit}." if more else ".")


def metrics_plot(found: Difference) -> str | None:
    """Return the change of every metric between 0 and 1 with its interval."""
    shown = [each for each in found.comparisons if not each.unit]
    return _intervals(
        [each.metric for each in shown],
        [(each.difference, each.interval.low, each.interval.high) for each in shown],
        f"{found.candidate} minus {found.baseline}",
        [{"better": COLORS[4], "worse": COLORS[2]}.get(each.outcome, COLORS[0]) for each in shown],
    )


def slices_plot(parts: Sequence[SliceChange], metric: str) -> str | None:
    """Return the change in every slice with its interval."""
    return _intervals(
        [f"{part.field}: {part.value}" for part in parts],
        [(part.change or 0.0, part.interval.low, part.interval.high) for part in parts],
        f"change of {metric}",
        [{"gains": COLORS[4], "breaks": COLORS[2], "suspect": COLORS[2]}.get(p.verdict, COLORS[0]) for p in parts],
    )


def figures(part: SliceChange) -> str:
    """Return a slice's change with its interval."""
    if part.change is None:
        return "–"
    return f"{part.change:+.3f} [{part.interval.low:+.3f}, {part.interval.high:+.3f}]"


def _intervals(
    names: Sequence[str], values: Sequence[tuple[float, float, float]], title: str, colors: Sequence[str]
) -> str | None:
    if not names:
        return None
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": [middle for middle, _low, _high in values],
        "y": list(names),
        "marker": {"size": 10, "color": list(colors)},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - middle for middle, _low, high in values],
            "arrayminus": [middle - low for middle, low, _high in values],
            "thickness": 1,
        },
    }
    layout = {
        "xaxis": {"title": {"text": title}, "zeroline": True, "zerolinecolor": INK},
        "yaxis": {"autorange": "reversed", "automargin": True},
        "height": 120 + 26 * len(names),
        "showlegend": False,
    }
    return figure([trace], layout)


def _row(found: Difference, each: Comparison) -> dict[str, str]:
    digits = 2 if each.unit else 3
    tally = next((tally for tally in found.tallies if tally.metric == each.metric), None)
    often = ""
    if tally and tally.superiority:
        often = f"{tally.superiority.low:.0%} – {tally.superiority.high:.0%} of those that differ"
    return {
        "metric": each.metric,
        "unit": each.unit,
        "change": f"{each.difference:+.{digits}f}",
        "interval": f"{each.interval.low:+.{digits}f} to {each.interval.high:+.{digits}f}",
        "p": f"{each.p_adjusted:.3g}",
        "outcome": each.outcome,
        "tone": {"better": "good", "worse": "bad"}.get(each.outcome, ""),
        "effect": f"{tally.effect:+.2f}" if tally else "–",
        "tally": f"{tally.better} / {tally.equal} / {tally.worse}" if tally else "–",
        "often": often,
    }


def _pair(pair: Pair) -> str:
    texts = " | ".join(cell(text) for text in (pair.question, pair.reference, pair.candidate, pair.baseline))
    return f"| {pair.change:+.3f} | {texts} |"
