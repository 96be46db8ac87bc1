"""What a run against a server, or a search for its highest rate, came to: files for people and for programs."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from vivace.bench.capacity import Capacity
from vivace.bench.report import ARRIVALS
from vivace.bench.server.run import ServerFindings
from vivace.bench.server.vllm import vllm_result
from vivace.config.settings import BenchSettings
from vivace.domain import Latency
from vivace.domain.release import SERVICE_LEVELS
from vivace.store.files import write_atomic

LATE_MS = 20.0
"""Above this the load generator itself was too slow, and is named."""
BUSY_ABOVE = 0.10


def write(found: ServerFindings, settings: BenchSettings, out: Path) -> None:
    """Write `result.json`, `requests.jsonl`, `vllm.json` and `report.md`."""
    encode = msgspec.json.encode
    write_atomic(out / "result.json", msgspec.json.format(encode(msgspec.structs.replace(found, samples=())), indent=1))
    write_atomic(out / "requests.jsonl", b"".join(encode(sample) + b"\n" for sample in found.samples))
    variation = {"gamma": settings.variation, "constant": 0.0}.get(found.arrivals, 1.0)
    row = found.row
    vllm = vllm_result(
        found.samples,
        row.seconds,
        model=found.model,
        service_level=found.service_level,
        rate=row.offered_per_s if row.loop == "open" else None,
        variation=variation,
        concurrency=row.concurrency,
        metadata={"made_by": "vivace bench", "asked": found.asked, "service_level": found.service_level},
    )
    write_atomic(out / "vllm.json", encode(vllm))
    write_atomic(out / "report.md", render(found))


def render(found: ServerFindings) -> str:
    """Return the run as Markdown."""
    lines = [f"# {found.model} at {found.host}", "", lead(found), ""]
    lines += ["| | p50 | p95 | p99 |", "| --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(cells)} |" for cells in latency_rows(found)]
    lines += ["", *(f"- {name}: {value}" for name, value in figures(found)), ""]
    lines += [f"- {remark}" for remark in remarks(found)]
    if found.errors:
        lines += ["", "| failures | requests |", "| --- | --- |"]
        lines += [f"| {error.replace('|', '/')} | {count} |" for error, count in found.errors.items()]
    return "\n".join(lines) + "\n"


def lead(found: ServerFindings) -> str:
    """Say what was sent, and how."""
    row = found.row
    if row.loop == "closed":
        how = f"{row.concurrency} at once, all the time (closed loop)"
    elif row.offered_per_s is None:
        how = "all at one time (open loop)"
    else:
        how = f"{ARRIVALS[found.arrivals]} arrivals at {row.offered_per_s:.3g} a second (open loop)"
    return f"{row.speed.completed + row.speed.failed} requests, {how}: {found.asked}."


def latency_rows(found: ServerFindings) -> list[list[str]]:
    """Return the latencies in ms, each with its interval."""
    speed = found.row.speed
    named = (("TTFT ms", speed.ttft), ("TPOT ms", speed.tpot), ("end to end ms", speed.e2e))
    return [[name, *_cells(latency)] for name, latency in named]


def figures(found: ServerFindings) -> list[tuple[str, str]]:
    """Return throughput, goodput and what was counted."""
    row, speed, interval = found.row, found.row.speed, found.goodput_interval
    ttft_ms, tpot_ms = SERVICE_LEVELS[found.service_level]
    level = f"{found.service_level}: TTFT ≤ {ttft_ms:,.0f} ms, TPOT ≤ {tpot_ms:,.0f} ms"
    offered = f" of {row.offered_per_s:.2f} sent" if row.offered_per_s else ""
    told = [
        (f"goodput ({level})", f"{found.goodput:.1%} [{interval.low:.1%}, {interval.high:.1%}]"),
        ("requests/s within it", f"{found.goodput * (speed.completed + speed.failed) / row.seconds:.2f}"),
        ("requests/s", f"{speed.requests_per_s:.2f}{offered}"),
        ("output tokens/s", f"{speed.output_tokens_per_s:,.1f}"),
        ("tokens per answer", f"{row.mean_completion_tokens:.1f}"),
        ("failed", str(speed.failed)),
    ]
    if found.cached_fraction:
        told.append(("prompt tokens from the server's cache", f"{found.cached_fraction:.0%}"))
    return told


def remarks(found: ServerFindings) -> list[str]:
    """Return what must be known to read the figures."""
    told = list(found.notes)
    if found.late_p99_ms > LATE_MS:
        told.append(
            f"The load generator itself sent up to {found.late_p99_ms:,.0f} ms late (p99): latencies count from when a "
            "request should have been sent, so they hold that."
        )
    if found.row.foreign_cpu_fraction > BUSY_ABOVE:
        told.append(
            f"Other programs used {found.row.foreign_cpu_fraction:.0%} of this machine's processor meanwhile: a server "
            "on this machine is one of them."
        )
    if found.resumed:
        told.append("The run was interrupted: it was measured in two or more sessions.")
    return told


def write_capacity(model: str, found: Capacity, out: Path) -> None:
    """Write `capacity.json` and `capacity.md`."""
    told = {"model": model, "sentence": found.sentence, **msgspec.to_builtins(found)}
    write_atomic(out / "capacity.json", msgspec.json.format(msgspec.json.encode(told), indent=1))
    header, *rows = probe_rows(found)
    lines = [f"# The highest rate of {model}", "", found.sentence, "", _line(header), _line(["---"] * len(header))]
    write_atomic(out / "capacity.md", "\n".join([*lines, *map(_line, rows)]) + "\n")


def probe_rows(found: Capacity) -> list[list[str]]:
    """Return the table of probes in the order of their rates, its header first."""
    rows = [["requests/s", "requests", "goodput", "interval", "TTFT p95", "TPOT p95", "end to end p95", "verdict", ""]]
    for probe in sorted(found.probes, key=lambda each: each.rate):
        low, high = probe.interval
        times = [
            "–" if value is None else f"{value:,.0f}"
            for value in (probe.ttft_p95_ms, probe.tpot_p95_ms, probe.e2e_p95_ms)
        ]
        cells = [f"{probe.rate:.3g}", f"{probe.decided} of {probe.planned}", f"{probe.goodput:.1%}"]
        late = f" The load generator sent {probe.late_p99_ms:,.0f} ms late." if probe.late_p99_ms > LATE_MS else ""
        rows.append([*cells, f"{low:.1%} – {high:.1%}", *times, probe.verdict, f"{probe.reason}{late}".strip()])
    return rows


def _cells(latency: Latency) -> list[str]:
    cells = []
    for score in (latency.p50_ms, latency.p95_ms, latency.p99_ms):
        if score is None or not score.count:
            cells.append("–")
        else:
            digits = 1 if score.value < 100 else 0
            low, high = score.interval.low, score.interval.high
            cells.append(f"{score.value:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]")
    return cells


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
