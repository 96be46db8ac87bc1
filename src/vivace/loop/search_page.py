"""The pages of a search: a self-contained HTML page with plots, and the same in Markdown."""

import json
from pathlib import Path
from typing import Any

from vivace.loop.plots import COLORS, INK, figure
from vivace.store.files import write_atomic

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Search for training settings</title>
<style>body {{ margin: 0 auto; max-width: 1040px; padding: 32px 20px; font: 16px/1.55 system-ui, sans-serif; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: right; padding: 4px 10px; border-bottom: 1px solid #e4e7eb; }}
</style><script>{plotly}</script></head><body><h1>Search for training settings</h1>
<p>{lead}</p>{plots}<table>{rows}</table></body></html>
"""
PLOT = """<h2>{title}</h2><div id="plot{number}"></div>
<script>Plotly.newPlot("plot{number}", {figure}, {{}}, {{displayModeBar: false, responsive: true}});</script>
"""


def write_pages(folder: Path) -> None:
    """Write `search.html` and `search.md` beside a `search.json`."""
    from html import escape

    from plotly.offline import get_plotlyjs

    result = json.loads((folder / "search.json").read_bytes())
    made = [(title, drawn) for title, drawn in plots(result) if drawn is not None]
    shown = [
        PLOT.format(title=title, number=number, figure=drawn.replace("</", "<\\/"))
        for number, (title, drawn) in enumerate(made)
    ]
    header, *rows = cells(result)
    table = _html_row("th", map(escape, header)) + "".join(_html_row("td", map(escape, row)) for row in rows)
    page = PAGE.format(plotly=get_plotlyjs(), lead=escape(lead(result)), plots="".join(shown), rows=table)
    write_atomic(folder / "search.html", page)
    lines = ["# Search for training settings", "", lead(result), ""]
    lines += [_line(header), _line(["---"] * len(header)), *map(_line, rows), ""]
    if result["importances"]:
        told = ", ".join(f"{name} {share:.0%}" for name, share in result["importances"].items())
        lines += [f"Share in the variance of the loss (fANOVA): {told}.", ""]
    write_atomic(folder / "search.md", "\n".join(lines))


def lead(result: dict[str, Any]) -> str:
    """Say what was tried and what came out best."""
    states = [trial["state"] for trial in result["trials"]]
    best = ", ".join(f"{name} {_short(value)}" for name, value in result["best"].items())
    return (
        f"{len(states)} trials of {result['tokens_per_trial']:,} tokens by {result['method']}, "
        f"{states.count('pruned')} ended early by {result['pruner']}, {states.count('failed')} failed. "
        f"Best: {best}, validation loss {result['best_validation_loss']:.3f}."
    )


def cells(result: dict[str, Any]) -> list[list[str]]:
    """Return the table of trials, its header first."""
    names = list(result["space"])
    rows = [["trial", *names, "tokens", "validation loss", "state"]]
    for trial in result["trials"]:
        settings = [_short(trial["settings"].get(name)) for name in names]
        rows.append(
            [str(trial["number"]), *settings, _short(trial["tokens"]), _short(trial["validation_loss"]), trial["state"]]
        )
    return rows


def plots(result: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return the figures: history, importances, parallel coordinates."""
    return [
        ("History", history(result["trials"])),
        ("What mattered", importances(result["importances"])),
        ("Settings and loss", parallel_coordinates(result)),
    ]


def history(trials: list[dict[str, Any]]) -> str | None:
    """Return each trial's loss and the best so far."""
    done = [trial for trial in trials if trial["validation_loss"] is not None]
    best: list[float] = []
    for trial in done:
        losses = [trial["validation_loss"]] if trial["state"] == "complete" else []
        best.append(min([*best[-1:], *losses], default=trial["validation_loss"]))
    numbers = [trial["number"] for trial in done]
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": state,
            "x": [trial["number"] for trial in done if trial["state"] == state],
            "y": [trial["validation_loss"] for trial in done if trial["state"] == state],
            "marker": {"color": color, "size": 9},
        }
        for state, color in (("complete", COLORS[1]), ("pruned", COLORS[0]))
    ]
    traces.append(
        {"type": "scatter", "mode": "lines", "name": "best so far", "x": numbers, "y": best, "line": {"color": INK}}
    )
    axes = {"xaxis": {"title": {"text": "trial"}}, "yaxis": {"title": {"text": "validation loss (nats per token)"}}}
    return figure(traces, axes) if done else None


def importances(shares: dict[str, float]) -> str | None:
    """Return each setting's share in the variance of the loss."""
    names = list(reversed(shares))
    trace = {"type": "bar", "orientation": "h", "x": [shares[name] for name in names], "y": names}
    axes = {"xaxis": {"title": {"text": "share in the variance of the loss"}}, "yaxis": {"automargin": True}}
    return figure([trace | {"marker": {"color": COLORS[1]}}], axes) if shares else None


def parallel_coordinates(result: dict[str, Any]) -> str | None:
    """Return one line a whole trial through its settings and its loss."""
    trials = [trial for trial in result["trials"] if trial["state"] == "complete"]
    columns = [_axis(name, [trial["settings"][name] for trial in trials]) for name in result["space"]]
    losses = [trial["validation_loss"] for trial in trials]
    trace = {
        "type": "parcoords",
        "dimensions": [*columns, {"label": "validation loss", "values": losses}],
        "line": {"color": losses, "colorscale": "Viridis", "reversescale": True},
    }
    return figure([trace], {"margin": {"l": 80, "r": 80, "t": 60, "b": 30}}) if len(trials) > 1 else None


def _axis(name: str, values: list[Any]) -> dict[str, Any]:
    """Return an axis; words, and numbers that are few, get ticks of their own."""
    kinds = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    if len(kinds) > 5 and not any(isinstance(value, str) for value in kinds):
        return {"label": name, "values": values}
    places = [kinds.index(value) for value in values]
    return {"label": name, "values": places, "tickvals": [*range(len(kinds))], "ticktext": [*map(_short, kinds)]}


def _html_row(tag: str, values: Any) -> str:
    return "<tr>" + "".join(f"<{tag}>{value}</{tag}>" for value in values) + "</tr>"


def _line(values: list[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
