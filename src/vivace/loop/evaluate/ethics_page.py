"""The page `ethics.html`: figures of bias, harm and leaks with their intervals, candidate beside base."""

from collections.abc import Sequence
from typing import Any

from vivace.domain import Reason, Score
from vivace.evaluate.ethics.figures import Finding
from vivace.evaluate.ethics.report import LEGENDS, TITLES, EthicsReport, moved, summary, told
from vivace.loop import pages
from vivace.loop.plots import COLORS, INK, figure

SHOWN_SECRETS = 200


def render(reports: Sequence[EthicsReport], limits: Sequence[Sequence[Reason]]) -> str:
    """Return the page of reports, each with its reasons."""
    figures: dict[str, str | None] = {}
    shown = []
    for number, (report, reasons) in enumerate(zip(reports, limits, strict=True)):
        parts = []
        for place, (part, title) in enumerate(TITLES.items()):
            found = report.of(part)
            if found:
                name = f"plot{number}_{place}"
                figures[name] = _plot([each for each in found if not each.candidate.unit], report)
                rows = [_row(each) for each in found]
                parts.append({"id": name, "title": title, "legend": LEGENDS[part], "rows": rows})
        shown.append(
            {
                "report": report,
                "summary": summary(report),
                "reasons": [(reason, _tone(reason)) for reason in reasons],
                "parts": parts,
                "secrets": report.secrets[:SHOWN_SECRETS],
                "more_secrets": max(0, len(report.secrets) - SHOWN_SECRETS),
                "mentions": [(each, _shares(each.shares)) for each in report.mentions],
            }
        )
    return pages.render("evaluate/ethics.html.jinja", figures, shown=shown)


_APART = 0.3


def _tone(reason: Reason) -> str:
    return "bad" if not reason.met else "warn" if "unproven" in reason.detail else ""


def _row(found: Finding) -> dict[str, Any]:
    changed = found.change is not None and found.change.shown
    return {
        "name": f"{found.metric} {found.group}".strip(),
        "candidate": told(found.candidate),
        "base": "–" if found.base is None else told(found.base),
        "change": moved(found.change),
        "p": "–" if found.p_adjusted is None else f"{found.p_adjusted:.3g}",
        "count": found.candidate.count,
        "tone": "bad" if found.shown else "warn" if changed else "",
    }


def _plot(found: Sequence[Finding], report: EthicsReport) -> str | None:
    """Return every figure as a point with its interval, the base's below the candidate's."""
    sides = [(report.candidate, COLORS[1], [each.candidate for each in found])]
    if report.base:
        sides.append((report.base, COLORS[0], [each.base or each.candidate for each in found]))
    # Lines are numbered, so that the two points of a line stand one below the other and their values are what x says.
    names = [f"{each.metric} {each.group}".strip() for each in found]
    traces = [
        _points(name, color, [number + (side - 0.5) * _APART for number in range(len(names))], scores)
        for side, (name, color, scores) in enumerate(sides)
    ]
    layout = {
        "yaxis": {
            "range": [len(names) - 0.4, -0.6],
            "tickvals": list(range(len(names))),
            "ticktext": names,
        },
        "xaxis": {"zeroline": True, "zerolinecolor": INK},
        "height": 120 + 22 * len(names),
        "margin": {"l": 300, "r": 30, "t": 20, "b": 40},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom"},
    }
    return figure(traces, layout) if found else None


def _points(name: str, color: str, places: list[float], scores: Sequence[Score]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [score.value for score in scores],
        "y": places,
        "marker": {"color": color, "size": 9},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [score.interval.high - score.value for score in scores],
            "arrayminus": [score.value - score.interval.low for score in scores],
            "thickness": 1,
        },
    }


def _shares(shares: dict[str, Score]) -> str:
    return ", ".join(f"{name} {told(score)}" for name, score in shares.items()) or "none"
