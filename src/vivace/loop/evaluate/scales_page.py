"""The page `scales.html`: every size measured, the curves through them, the recommendation."""

from pathlib import Path
from typing import Any

from vivace import __version__
from vivace.config.scales import ScalesSettings
from vivace.domain import Score
from vivace.evaluate.scales.saturation import Saturation
from vivace.evaluate.scales.telling import tell
from vivace.loop.evaluate.scales import Row, Scales
from vivace.loop.plots import COLORS, INK, figure
from vivace.store.files import write_atomic

NAME = "scales.html"


def write_page(folder: Path, found: Scales, wanted: ScalesSettings) -> Path:
    """Write the page beside `vivace.toml` and return its path."""
    target = folder / NAME
    write_atomic(target, render(found, wanted))
    return target


def render(found: Scales, wanted: ScalesSettings) -> str:
    """Return the page."""
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vivace.loop.evaluate", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    curves = [
        {
            "title": f"{curve.metric.replace('_', ' ')} over {curve.axis} ({family})",
            "told": tell(curve),
            "figure": plot(curve).replace("</", "<\\/"),
        }
        for family, curve in found.curves
    ]
    return environment.get_template("scales.html.jinja").render(
        version=__version__,
        plotly=get_plotlyjs(),
        found=found,
        curves=curves,
        rows=[cells(row) for row in found.rows],
        header=HEADER,
        prices=priced(wanted),
        busy=max(row.times.foreign_cpu_fraction for row in found.rows),
    )


HEADER = (
    "model", "parameters", "quality", "bits per byte", "first token, ms", "per token, ms", "tokens/s, 8 at once",
    "answer, s", "MB on disk", "MB of memory", "cost of 1,000 answers",
)  # fmt: skip


def cells(row: Row) -> list[tuple[str, str]]:
    """Return the figures of a model, each with its interval."""
    times = row.times
    return [
        (row.name, f"{row.family}, {row.weights} on {row.engine}"),
        ("–" if row.parameters is None else f"{row.parameters / 1e6:,.1f} M", ""),
        scored(row.quality, 3),
        ("–", "") if row.bits is None else scored(row.bits, 3),
        scored(times.ttft_ms, 0),
        scored(times.tpot_ms, 1),
        scored(times.tokens_per_s, 0),
        scored(times.answer_s, 2),
        (f"{row.size_bytes / 1e6:,.0f}" if row.size_bytes else "–", ""),
        (f"{times.peak_memory_bytes / 1e6:,.0f}" if times.peak_memory_bytes else "–", ""),
        ("–" if row.cost is None else f"{row.cost:,.4g}", ""),
    ]


def scored(score: Score, digits: int) -> tuple[str, str]:
    """Return a figure and its interval; the level is named where it is not 95 %."""
    low, high, level = score.interval.low, score.interval.high, score.interval.level
    note = "" if level > 0.94 else f" ({level:.0%})"
    return f"{score.value:,.{digits}f}", f"{low:,.{digits}f} – {high:,.{digits}f}{note}"


def priced(wanted: ScalesSettings) -> str:
    """Say what costs were reckoned with."""
    parts = []
    if wanted.price_per_hour is not None:
        parts.append(f"{wanted.price_per_hour:g} for an hour of this machine with eight answers in work")
    parts += [f"{price:g} for a million tokens of {name}" for name, price in wanted.price_per_million_tokens.items()]
    return "; ".join(parts)


def plot(curve: Saturation) -> str:
    """Return the models with their intervals and, where there is one, the curve with its band."""
    points = curve.points
    traces: list[dict[str, Any]] = []
    fitted = curve.fitted
    if fitted is not None:
        sizes = [each[0] for each in fitted.band]
        edge = {"type": "scatter", "mode": "lines", "x": sizes, "line": {"width": 0}, "showlegend": False}
        traces += [
            edge | {"y": [each[3] for each in fitted.band], "hoverinfo": "skip"},
            edge
            | {"y": [each[2] for each in fitted.band], "fill": "tonexty", "fillcolor": "rgba(11,114,133,0.15)"}
            | {"name": "interval", "hoverinfo": "skip"},
            edge
            | {"y": [each[1] for each in fitted.band], "line": {"color": COLORS[1], "width": 2}}
            | {"name": "curve", "showlegend": True},
        ]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": "measured",
            "x": [point.size for point in points],
            "y": [point.value for point in points],
            "text": [point.name for point in points],
            "textposition": "top center",
            "marker": {"size": 10, "color": COLORS[2]},
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [point.interval.high - point.value for point in points],
                "arrayminus": [point.value - point.interval.low for point in points],
                "color": INK,
                "thickness": 1,
            },
        }
    )
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": curve.axis}, "type": "log"},
        "yaxis": {"title": {"text": curve.metric.replace("_", " ")}},
        "height": 400,
    }
    if fitted is not None:
        knee = fitted.knee
        layout["shapes"] = [
            {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": knee.interval.low, "x1": knee.interval.high}
            | {"fillcolor": COLORS[2], "opacity": 0.08, "line": {"width": 0}}
        ]
        if knee.reach == "inside":
            line = {"color": COLORS[2], "dash": "dot", "width": 1}
            layout["shapes"].append(
                {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": knee.size, "x1": knee.size, "line": line}
            )
    return figure(traces, layout)
