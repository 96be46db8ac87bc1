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
from vivace.bench.summary import Ratio, Row, answered, goodput, speed_of, speedup
from vivace.config.settings import BenchSettings
from vivace.domain import Candidate, Latency, Speed
from vivace.domain.release import SERVICE_LEVELS
from vivace.store.files import write_atomic

KINDS = (("closed", "natural"), ("closed", "fixed"), ("open", "natural"))
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
    lines += [f"Not measured: {name} ({reason})." for name, reason in findings.unmeasured.items()]
    lines += ["", *_method(settings), ""]
    return "\n".join(lines)


def _title(loop: str, workload: str, settings: BenchSettings) -> str:
    if loop == "open":
        return "Open loop: Poisson arrivals, answers end by themselves"
    if workload == "fixed":
        return f"{settings.concurrency} at once, {settings.fixed_tokens} new tokens each"
    return f"{settings.concurrency} at once, answers end by themselves (at most {settings.max_tokens} tokens)"


def _table(rows: Sequence[Row]) -> list[str]:
    head = "| candidate | TTFT p50 | TTFT p95 | TPOT p50 | end to end p50 | end to end p95 | tokens/s | requests/s |"
    lines = [head + " goodput | tokens per answer | failed | memory MB | load s |", "|" + " --- |" * 13]
    for row in rows:
        speed = row.speed
        rate = f"{speed.requests_per_s:.2f}" + (f" of {row.offered_per_s:.2f}" if row.offered_per_s else "")
        cells = [row.candidate, _cell(speed.ttft), f"{speed.ttft.p95_ms.value:,.0f}", _cell(speed.tpot)]
        cells += [_cell(speed.e2e), f"{speed.e2e.p95_ms.value:,.0f}", f"{speed.output_tokens_per_s:,.1f}", rate]
        cells += [f"{speed.goodput_fraction:.0%}", f"{row.mean_completion_tokens:.1f}", str(speed.failed)]
        cells += [f"{speed.peak_memory_bytes / 1e6:,.0f}", f"{speed.load_s:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


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


def _method(settings: BenchSettings) -> list[str]:
    ttft_ms, tpot_ms = SERVICE_LEVELS[settings.service_level]
    return [
        "Latencies are in ms, medians with an interval, counted from the intended send time; the prefix cache is off. "
        f"Goodput is the share of requests with TTFT ≤ {ttft_ms:,.0f} ms and TPOT ≤ {tpot_ms:,.0f} ms "
        f"(`{settings.service_level}`). Candidates took turns in {settings.blocks} interleaved blocks; one worked at a "
        "time. Intervals tell how much prompts differ within this run, not how much machines or days do."
    ]
