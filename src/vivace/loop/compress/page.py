"""The page `compress.html`: what every step costs and brings, and which slices break."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.evaluate.retention import Kept
from vivace.evaluate.slices import FEWEST, SliceChange
from vivace.loop import pages
from vivace.loop.compress.measure import Measured, Row
from vivace.loop.plots import COLORS, figure
from vivace.store.files import write_atomic

if TYPE_CHECKING:
    from vivace.loop.compress.search import Found

NAME = "compress.html"
MARKS = {"breaks": "breaks", "gains": "gains", "suspect": "look at it", "holds": "", "few": "too few to tell"}


def write_page(folder: Path, measured: Measured, found: "Found | None" = None) -> Path:
    """Write the page beside `vivace.toml` and return its path."""
    target = folder / NAME
    write_atomic(target, render(measured, found))
    return target


def render(measured: Measured, found: "Found | None" = None) -> str:
    """Return the page; `found` adds what was looked for and tried."""
    every = [(part.field, part.value, part.count) for part in measured.rows[0].domain.slices]
    parts = [part for part in every if part[2] >= FEWEST]
    return pages.render(
        "compress/page.html.jinja",
        {"speed": tradeoff(measured, "speed"), "size": tradeoff(measured, "size")},
        measured=measured,
        rows=[_cells(row) for row in measured.rows],
        parts=[
            {
                "field": name,
                "value": value,
                "count": count,
                "cells": [_slice(row, name, value) for row in measured.rows],
            }
            for name, value, count in parts
        ],
        few=len(every) - len(parts),
        fewest=FEWEST,
        names=[row.name for row in measured.rows],
        broken=[
            (row.name, what, part)
            for row in measured.rows
            for what, kept in (("", row.domain), ("general questions, ", row.general))
            for part in kept.broken
        ],
        found=found,
        goals=found.goals.told() if found else "",
        busy=max(row.pace.foreign_cpu_fraction for row in measured.rows),
    )


def tradeoff(measured: Measured, of: str) -> str:
    """Return quality against decoding speed, or against size: one point a model, with the interval of its quality."""
    traces = []
    for number, row in enumerate(measured.rows):
        kept = row.domain.of("token_f1")
        if kept is None:
            continue
        x = row.pace.decode_ratio.value if of == "speed" else row.size_bytes / 1e6
        half = (kept.interval.high - kept.interval.low) / 2
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": row.name,
            "x": [x],
            "y": [kept.value],
            "marker": {"size": 12, "color": COLORS[number % len(COLORS)]},
            "error_y": {"type": "data", "array": [half], "thickness": 1},
        }
        if of == "speed":
            ratio = row.pace.decode_ratio
            trace["error_x"] = {
                "type": "data",
                "symmetric": False,
                "array": [ratio.high - ratio.value],
                "arrayminus": [ratio.value - ratio.low],
                "thickness": 1,
            }
        traces.append(trace)
    title = f"decoding, times {measured.today}" if of == "speed" else "size on disk, MB"
    layout = {
        "xaxis": {"title": {"text": title}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "token F1"}, "rangemode": "tozero"},
        "height": 420,
        "legend": {"orientation": "h", "y": -0.25},
    }
    return figure(traces, layout)


def _cells(row: Row) -> dict[str, Any]:
    pace = row.pace
    return {
        "name": row.name,
        "step": row.step,
        "figures": [
            _kept(row.domain.of("token_f1")),
            _kept(row.domain.of("rouge_l")),
            _kept(row.domain.of("bits_per_byte")),
            _kept(row.general.of("bits_per_byte")),
            (f"{pace.decode_ratio.value:.2f}x", f"{pace.decode_ratio.low:.2f} – {pace.decode_ratio.high:.2f}", ""),
            (
                f"{pace.throughput_ratio.value:.2f}x",
                f"{pace.throughput_ratio.low:.2f} – {pace.throughput_ratio.high:.2f}",
                "",
            ),
            (f"{1e3 / pace.token_ms:,.0f}", f"{pace.tokens_per_s:,.0f} at 8 at once", ""),
            (f"{pace.ttft_ms:,.0f}", "", ""),
            (f"{row.size_bytes / 1e6:,.0f}", f"{row.parameters / 1e6:,.1f}M parameters", ""),
            (f"{pace.peak_memory_bytes / 1e6:,.0f}", "", ""),
        ],
    }


def _kept(kept: Kept | None) -> tuple[str, str, str]:
    """Return a figure, its change with the interval, and how to color it."""
    if kept is None:
        return "–", "", ""
    worse = kept.interval.high < 0 if kept.higher_is_better else kept.interval.low > 0
    change = f"{kept.change:+.3f} [{kept.interval.low:+.3f}, {kept.interval.high:+.3f}]"
    return f"{kept.value:.3f}", change if kept.change or kept.p_value < 1 else "", "bad" if worse else ""


def _slice(row: Row, name: str, value: str) -> dict[str, str]:
    part = next((each for each in row.domain.slices if (each.field, each.value) == (name, value)), None)
    if part is None or part.change is None:
        return {"text": "–", "mark": MARKS["few"] if part else "", "tone": ""}
    tone = {"breaks": "bad", "suspect": "warn"}.get(part.verdict, "")
    return {"text": _signed(part), "mark": MARKS[part.verdict], "tone": tone}


def _signed(part: SliceChange) -> str:
    return f"{part.change or 0:+.3f} [{part.interval.low:+.3f}, {part.interval.high:+.3f}]"
