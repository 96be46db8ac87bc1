"""What the measurements came to, as tables for people and JSON for programs."""

import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct, field

from vivace.bench.blocks import Finished
from vivace.bench.foreign import NOISY_ABOVE
from vivace.bench.load import Run, Sample
from vivace.bench.roofline import Nearness, Roofline, nearness, weights_of
from vivace.bench.summary import Ratio, Row, answered, goodput, speed_of, speedup
from vivace.config.settings import BenchSettings
from vivace.domain import Candidate, Latency, Speed
from vivace.domain.release import SERVICE_LEVELS
from vivace.store.files import write_atomic

KINDS = (("closed", "natural"), ("closed", "fixed"), ("open", "natural"))
ARRIVALS = {"poisson": "Poisson", "gamma": "gamma", "constant": "even", "trace": "recorded"}
HEADLINE = ("closed", "natural")


class Findings(Struct, frozen=True):
    """Everything the bench found; `speeds` are the rows of the closed loop with natural answers."""

    speeds: dict[str, Speed]
    rows: list[Row]
    ratios: list[Ratio]
    samples: list[dict[str, object]]
    foreign_cpu_fraction: float
    noise: str
    unmeasured: dict[str, str] = field(default_factory=dict)
    resumed: bool = False
    roofline: Roofline | None = None
    nearness: list[Nearness] = field(default_factory=list)


def against_the_machine(
    candidates: Sequence[Candidate], blocks: Sequence[Finished], roof: Roofline, at_once: int
) -> list[Nearness]:
    """Return how near to the roofline each candidate came where all answers have the same length."""
    found = []
    for candidate in candidates:
        samples = [
            sample
            for block in _of_kind("closed", "fixed", blocks)
            if candidate.name in block.runs
            for sample in answered(block.runs[candidate.name].samples)
        ]
        weights = weights_of(candidate.model)
        if samples and weights is not None:
            size, parameters = weights
            near = nearness(
                candidate.name, roof, weight_bytes=size, parameters=parameters, samples=samples, at_once=at_once
            )
            found.append(near)
    return found


def find(
    candidates: Sequence[Candidate], baseline: str | None, blocks: Sequence[Finished], settings: BenchSettings
) -> Findings:
    """Summarize measured blocks; a candidate that answered nothing in the headline's loop is unmeasured."""
    rows: list[Row] = []
    unmeasured: dict[str, str] = {}
    for candidate in candidates:
        for loop, workload in KINDS:
            row = _row(candidate.name, loop, workload, blocks, settings)
            if row is not None:
                rows.append(row)
        if not any(row.candidate == candidate.name and (row.loop, row.workload) == HEADLINE for row in rows):
            unmeasured[candidate.name] = _first_error(candidate.name, blocks)
    rows = [row for row in rows if row.candidate not in unmeasured]
    speeds = {row.candidate: row.speed for row in rows if (row.loop, row.workload) == HEADLINE}
    seconds = sum(run.seconds for block in blocks for run in block.runs.values())
    foreign = sum(block.foreign[name] * run.seconds for block in blocks for name, run in block.runs.items())
    foreign_cpu_fraction = foreign / seconds if seconds else 0.0
    noise = ""
    if foreign_cpu_fraction > NOISY_ABOVE:
        noise = f"Noisy: other programs used {foreign_cpu_fraction:.0%} of the processor during the measurement."
    return Findings(
        speeds=speeds,
        rows=rows,
        ratios=_ratios(list(speeds), baseline, blocks, settings.seed),
        samples=_samples(blocks),
        foreign_cpu_fraction=foreign_cpu_fraction,
        noise=noise,
        unmeasured=unmeasured,
    )


def _of_kind(loop: str, workload: str, blocks: Sequence[Finished]) -> list[Finished]:
    return [block for block in blocks if block.key.startswith(f"{loop}/{workload}/")]


def _row(name: str, loop: str, workload: str, blocks: Sequence[Finished], settings: BenchSettings) -> Row | None:
    measured = [block for block in _of_kind(loop, workload, blocks) if name in block.runs]
    runs: list[Run] = [block.runs[name] for block in measured]
    samples = [sample for run in runs for sample in run.samples]
    good = answered(samples)
    if not good:
        return None
    seconds = sum(run.seconds for run in runs)
    return Row(
        candidate=name,
        loop=loop,
        workload=workload,
        speed=speed_of(
            runs,
            settings.service_level,
            load_s=measured[-1].load_s[name],
            peak_memory_bytes=max(block.peak_memory_bytes[name] for block in blocks if name in block.runs),
        ),
        goodput={level: goodput(samples, level) for level in SERVICE_LEVELS},
        seconds=seconds,
        mean_completion_tokens=sum(sample.completion_tokens for sample in good) / len(good),
        foreign_cpu_fraction=sum(block.foreign[name] * block.runs[name].seconds for block in measured) / seconds,
        concurrency=settings.concurrency if loop == "closed" else None,
        offered_per_s=measured[0].offered_per_s.get(name),
    )


def _ratios(names: Sequence[str], baseline: str | None, blocks: Sequence[Finished], seed: int) -> list[Ratio]:
    if baseline is None or baseline not in names:
        return []
    ratios = []
    for name in names:
        for workload in ("natural", "fixed"):
            shared = [b for b in _of_kind("closed", workload, blocks) if name in b.runs and baseline in b.runs]
            ours = [sample for block in shared for sample in block.runs[name].samples]
            theirs = [sample for block in shared for sample in block.runs[baseline].samples]
            if name != baseline and answered(ours) and answered(theirs):
                ratios.append(speedup(name, baseline, workload, ours, theirs, seed))
    return ratios


def _first_error(name: str, blocks: Sequence[Finished]) -> str:
    samples: list[Sample] = [s for block in blocks if name in block.runs for s in block.runs[name].samples]
    return next((sample.error for sample in samples if sample.error), "it was not measured")


def _samples(blocks: Sequence[Finished]) -> list[dict[str, object]]:
    rows = []
    for block in blocks:
        loop, workload, number = block.key.split("/")
        for name, run in block.runs.items():
            place = {"candidate": name, "loop": loop, "workload": workload, "block": int(number)}
            rows += [place | msgspec.to_builtins(sample) for sample in run.samples]
    return rows


def write(findings: Findings, settings: BenchSettings, out: Path) -> None:
    """Write all files of the report."""
    encode = msgspec.json.encode
    for name, value in (("speed", findings.speeds), ("rows", findings.rows), ("ratios", findings.ratios)):
        write_atomic(out / f"{name}.json", msgspec.json.format(encode(value), indent=1))
    if findings.roofline is not None:
        told = {"machine": findings.roofline, "candidates": findings.nearness}
        write_atomic(out / "roofline.json", msgspec.json.format(encode(told), indent=1))
    write_atomic(out / "requests.jsonl", b"".join(encode(sample) + b"\n" for sample in findings.samples))
    write_atomic(out / "report.md", render(findings, settings))


def render(findings: Findings, settings: BenchSettings) -> str:
    """Return the report as Markdown."""
    machine = f"{platform.machine()}, {psutil.cpu_count()} logical cores"
    memory = f"{psutil.virtual_memory().total / 1e9:.0f} GB memory, {platform.system()} {platform.release()}"
    lines = ["# Speed", "", f"Machine: {machine}, {memory}.", ""]
    if findings.noise:
        lines += [f"**{findings.noise}** Repeat it on a quiet machine before you rely on it.", ""]
    else:
        lines += [f"Other programs used {findings.foreign_cpu_fraction:.0%} of the processor meanwhile.", ""]
    if findings.resumed:
        lines += ["The run was interrupted: its blocks were measured in two or more sessions.", ""]
    for loop, workload in KINDS:
        rows = [row for row in findings.rows if (row.loop, row.workload) == (loop, workload)]
        if rows:
            lines += [f"## {_title(loop, workload, settings)}", "", *_table(rows), ""]
    if findings.ratios:
        lines += ["## Times faster than the baseline (median end to end, closed loop)", "", *_ratio_table(findings), ""]
    if findings.roofline is not None and findings.nearness:
        lines += ["## Against the machine", "", *_roofline_lines(findings.roofline, findings.nearness, settings), ""]
    lines += [f"Not measured: {name} ({reason})." for name, reason in findings.unmeasured.items()]
    lines += ["", *_method(settings), ""]
    return "\n".join(lines)


def _title(loop: str, workload: str, settings: BenchSettings) -> str:
    if loop == "open" and settings.trace:
        return f"Open loop: times, lengths and beginnings of {Path(settings.trace).name}"
    if loop == "open":
        return f"Open loop: {ARRIVALS[settings.arrivals]} arrivals, answers end by themselves"
    if workload == "fixed":
        return f"{settings.concurrency} at once, {settings.fixed_tokens} new tokens each"
    return f"{settings.concurrency} at once, answers end by themselves (at most {settings.max_tokens} tokens)"


def _table(rows: Sequence[Row]) -> list[str]:
    head = "| candidate | TTFT p50 | p95 | p99 | TPOT p50 | end to end p50 | p95 | p99 | tokens/s | requests/s |"
    lines = [head + " goodput | tokens per answer | failed | memory MB | load s |", "|" + " --- |" * 15]
    for row in rows:
        speed = row.speed
        rate = f"{speed.requests_per_s:.2f}" + (f" of {row.offered_per_s:.2f}" if row.offered_per_s else "")
        cells = [row.candidate, _cell(speed.ttft), *_tail(speed.ttft), _cell(speed.tpot)]
        cells += [_cell(speed.e2e), *_tail(speed.e2e), f"{speed.output_tokens_per_s:,.1f}", rate]
        cells += [f"{speed.goodput_fraction:.0%}", f"{row.mean_completion_tokens:.1f}", str(speed.failed)]
        cells += [f"{speed.peak_memory_bytes / 1e6:,.0f}", f"{speed.load_s:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _tail(latency: Latency) -> list[str]:
    return [f"{score.value:,.0f}" if score and score.count else "–" for score in (latency.p95_ms, latency.p99_ms)]


def _cell(latency: Latency) -> str:
    score = latency.p50_ms
    if not score.count:
        return "–"
    return f"{score.value:,.0f} [{score.interval.low:,.0f}, {score.interval.high:,.0f}]"


def _ratio_table(findings: Findings) -> list[str]:
    lines = ["| candidate | baseline | answers | times faster | interval |", "|" + " --- |" * 5]
    for found in findings.ratios:
        interval = f"[{found.low:.2f}, {found.high:.2f}]"
        lines.append(f"| {found.candidate} | {found.baseline} | {found.workload} | {found.ratio:.2f} | {interval} |")
    return lines


def _roofline_lines(roof: Roofline, found: Sequence[Nearness], settings: BenchSettings) -> list[str]:
    lines = [f"This machine can do {roof.sentence} ({roof.processor}, measured {roof.measured_at}).", ""]
    if roof.foreign_cpu_fraction > NOISY_ABOVE:
        lines += [
            f"Other programs used {roof.foreign_cpu_fraction:.0%} of the processor while that was measured: it can do "
            "more, and the shares are too high.",
            "",
        ]
    lines += [
        "| candidate | weights MB | decoding GB/s | of the bandwidth | of the arithmetic | bound by |"
        " reading prompts GFLOP/s | of the arithmetic |",
        "|" + " --- |" * 8,
    ]
    for near in found:
        cells = [near.candidate, f"{near.weight_bytes / 1e6:,.0f}", f"{near.decode_gb_per_s:,.1f}"]
        cells += [f"{near.decode_fraction:.0%}", f"{near.decode_compute_fraction:.0%}", near.bound]
        cells += [f"{near.prefill_gflop_per_s:,.0f}", f"{near.prefill_fraction:.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        f"Decoding reads all weights once a step, which up to {settings.concurrency} answers share; reading a prompt "
        "takes two operations a weight and token, and is judged by the request that was fastest at it. Caches of keys "
        "and values are left out. Kernels in int8 or bf16 may pass 100 % of the arithmetic, which is fp32's.",
    ]


def _method(settings: BenchSettings) -> list[str]:
    ttft_ms, tpot_ms = SERVICE_LEVELS[settings.service_level]
    return [
        "Latencies are in ms, medians with an interval, counted from the intended send time; the prefix cache is off. "
        f"Goodput is the share of requests with TTFT ≤ {ttft_ms:,.0f} ms and TPOT ≤ {tpot_ms:,.0f} ms "
        f"(`{settings.service_level}`). Candidates took turns in {settings.blocks} interleaved blocks; one worked at a "
        "time. Intervals tell how much prompts differ within this run, not how much machines or days do."
    ]
