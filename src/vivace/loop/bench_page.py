"""The page `bench.html`: latencies in tables and as distributions, and the search for the highest rate."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.bench.capacity import Capacity
from vivace.bench.load import Sample
from vivace.bench.server import ServerFindings
from vivace.bench.server.report import figures, latency_rows, lead, probe_rows, remarks
from vivace.bench.summary import answered
from vivace.domain.release import SERVICE_LEVELS
from vivace.loop import pages
from vivace.loop.plots import COLORS, INK, figure
from vivace.store.files import write_atomic

NAME = "bench.html"
TEMPLATE = "bench.html.jinja"
MOST_POINTS = 400


class Part(Struct, frozen=True):
    """A section of the page; `rows` is a table, its header first."""

    title: str
    texts: list[str] = []
    figure: str = ""
    rows: list[list[str]] = []


def write_server_page(target: Path, found: ServerFindings | None, capacities: Mapping[str, Capacity]) -> Path:
    """Write the page of a run against a server, of searches for the highest rate, or of both."""
    parts: list[Part] = []
    drawn: dict[str, str | None] = {}
    tiles: list[tuple[str, str]] = []
    if found is not None:
        tiles = [(name, value.partition(" [")[0]) for name, value in figures(found)[:4]]
        drawn["latencies"] = cdf({found.model: found.samples}, found.service_level)
        parts.append(Part("Latencies", [], "latencies", [["ms", "p50", "p95", "p99"], *latency_rows(found)]))
        parts.append(Part("Figures", [], "", [["", ""], *([name, value] for name, value in figures(found))]))
        if found.errors:
            rows = [["failure", "requests"], *([error, str(count)] for error, count in found.errors.items())]
            parts.append(Part("Failures", [], "", rows))
    for number, (name, capacity) in enumerate(capacities.items()):
        drawn[f"rate{number}"] = rates(capacity)
        parts.append(Part(f"The highest rate of {name}", [capacity.sentence], f"rate{number}", probe_rows(capacity)))
    title = f"{found.model} at {found.host}" if found else "The highest rate"
    told = lead(found) if found else "The goal that was searched for is told with each model."
    page = pages.render(
        TEMPLATE, drawn, title=title, lead=told, warnings=remarks(found) if found else [], tiles=tiles, parts=parts
    )
    write_atomic(target, page)
    return target


def write_project_page(target: Path, report: Path) -> Path:
    """Write the page of a project's bench from the files of its report."""
    text = (report / "report.md").read_text(encoding="utf-8")
    samples: dict[str, dict[str, list[Sample]]] = {}
    for line in (report / "requests.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        place = f"{row.pop('loop')}/{row.pop('workload')}"
        sample = msgspec.convert({key: value for key, value in row.items() if key in Sample.__struct_fields__}, Sample)
        samples.setdefault(place, {}).setdefault(row["candidate"], []).append(sample)
    parts, notes = _sections(text)
    drawn: dict[str, str | None] = {}
    for number, (place, title) in enumerate(
        (("closed/natural", "closed loop, answers end by themselves"), ("open/natural", "open loop"))
    ):
        if place in samples:
            drawn[f"cdf{number}"] = cdf(samples[place], "")
            parts.append(Part(f"How latencies are distributed: {title}", [], f"cdf{number}"))
    machine = next((line for line in text.splitlines() if line.startswith("Machine:")), "")
    warnings = [note for note in notes if note.startswith(("Noisy", "Not measured"))]
    page = pages.render(TEMPLATE, drawn, title="Speed", lead=machine, warnings=warnings, tiles=[], parts=parts)
    write_atomic(target, page)
    return target


def cdf(samples: Mapping[str, Sequence[Sample]], service_level: str) -> str | None:
    """Return the share of answers whose first token, and whose last, came within a time."""
    traces: list[dict[str, Any]] = []
    for number, (name, own) in enumerate(samples.items()):
        good = answered(own)
        for what, dash in (("first token", "solid"), ("end to end", "dot")):
            values = [sample.ttft_ms if what == "first token" else sample.e2e_ms for sample in good]
            known = sorted(value for value in values if value is not None)
            if known:
                xs, ys = _steps(known, len(own))
                color = COLORS[(number + 1) % len(COLORS)]
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "lines",
                        "name": f"{name}, {what}" if len(samples) > 1 else what,
                        "x": xs,
                        "y": ys,
                        "line": {"shape": "hv", "color": color, "dash": dash},
                    }
                )
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "ms, from when it should have been sent"}, "type": "log"},
        "yaxis": {"title": {"text": "share of all requests"}, "range": [0, 1.02]},
    }
    if service_level:
        limit = SERVICE_LEVELS[service_level][0]
        layout["shapes"] = [_mark({"x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper"})]
    return figure(traces, layout) if traces else None


def rates(found: Capacity) -> str | None:
    """Return goodput over the rate with its intervals, what held and what missed."""
    traces = []
    for verdict, color in (("held", COLORS[4]), ("missed", COLORS[2])):
        probes = sorted((each for each in found.probes if each.verdict == verdict), key=lambda each: each.rate)
        if probes:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": verdict,
                    "x": [each.rate for each in probes],
                    "y": [each.goodput for each in probes],
                    "marker": {"size": 10, "color": color},
                    "error_y": {
                        "type": "data",
                        "symmetric": False,
                        "array": [each.interval[1] - each.goodput for each in probes],
                        "arrayminus": [each.goodput - each.interval[0] for each in probes],
                        "color": INK,
                        "thickness": 1,
                    },
                }
            )
    goal = found.goal.goodput
    layout = {
        "xaxis": {"title": {"text": "requests a second"}, "type": "log"},
        "yaxis": {"title": {"text": f"goodput ({found.goal.service_level})"}, "range": [0, 1.05]},
        "shapes": [_mark({"x0": 0, "x1": 1, "xref": "paper", "y0": goal, "y1": goal})],
    }
    return figure(traces, layout) if traces else None


def _mark(place: dict[str, Any]) -> dict[str, Any]:
    return {"type": "line", "line": {"color": INK, "width": 1, "dash": "dash"}, **place}


def _steps(ordered: Sequence[float], count: int) -> tuple[list[float], list[float]]:
    """Return a curve of at most so many points; `count` are all requests, failed ones included."""
    stride = max(1, len(ordered) // MOST_POINTS)
    places = sorted({0, len(ordered) - 1, *range(0, len(ordered), stride)})
    return [ordered[place] for place in places], [(place + 1) / count for place in places]


def _sections(text: str) -> tuple[list[Part], list[str]]:
    """Return the tables of a report in Markdown as sections, and the lines beside them."""
    parts: list[Part] = []
    title, texts, rows, notes = "", [""][:0], [[""]][:0], [""][:0]

    def close() -> None:
        if rows:
            parts.append(Part(title, list(texts), "", list(rows)))

    for line in text.splitlines():
        if line.startswith("## "):
            close()
            title, texts, rows = line[3:], [], []
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if set(cells) != {"---"}:
                rows.append(cells)
        elif line.strip():
            notes.append(line.strip("*"))
            if title:
                texts.append(line.replace("**", "").replace("`", ""))
    close()
    return parts, notes
