"""From times to figures: percentiles with intervals, throughput, goodput and ratios."""

from collections.abc import Sequence
from itertools import chain as join

import numpy as np
from msgspec import Struct

from vivace.bench.load import Run, Sample
from vivace.domain import Interval, Latency, Score, Speed
from vivace.domain.release import SERVICE_LEVELS
from vivace.stats import quantile_interval, ratio_interval


class Row(Struct, frozen=True):
    """What one candidate did in one loop with one workload.

    `goodput` is the share of requests within each named service level. `offered_per_s` is the open loop's rate.
    """

    candidate: str
    loop: str
    workload: str
    speed: Speed
    goodput: dict[str, float]
    seconds: float
    mean_completion_tokens: float
    foreign_cpu_fraction: float
    concurrency: int | None = None
    offered_per_s: float | None = None


class Ratio(Struct, frozen=True):
    """How many times faster `candidate` is than `baseline`: the baseline's latency divided by the candidate's."""

    candidate: str
    baseline: str
    workload: str
    metric: str
    ratio: float
    low: float
    high: float
    level: float


def speed_of(runs: Sequence[Run], service_level: str, load_s: float, peak_memory_bytes: int) -> Speed:
    """Return the figures of one or several blocks of the same kind; at least one request must have been answered."""
    samples = list(join.from_iterable(run.samples for run in runs))
    good = answered(samples)
    seconds = sum(run.seconds for run in runs)
    return Speed(
        ttft=latency("ttft", [sample.ttft_ms for sample in good]),
        tpot=latency("tpot", [sample.tpot_ms for sample in good]),
        e2e=latency("e2e", [sample.e2e_ms for sample in good]),
        output_tokens_per_s=sum(sample.completion_tokens for sample in good) / seconds,
        requests_per_s=len(good) / seconds,
        goodput_fraction=goodput(samples, service_level),
        peak_memory_bytes=peak_memory_bytes,
        load_s=load_s,
        completed=len(good),
        failed=len(samples) - len(good),
    )


def answered(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples of requests that were answered to the end."""
    return [sample for sample in samples if sample.error is None]


def latency(name: str, values_ms: Sequence[float | None]) -> Latency:
    """Return p50, p95 and p99 with intervals; `count` 0 where no answer was long enough to have this latency."""
    known = np.array([value for value in values_ms if value is not None])
    return Latency(*(_percentile(name, known, q) for q in (0.5, 0.95, 0.99)))


def _percentile(name: str, values: np.ndarray[tuple[int], np.dtype[np.float64]], q: float) -> Score:
    metric = f"{name}_p{q * 100:.0f}_ms"
    if not len(values):
        return Score(metric, 0.0, Interval(0.0, 0.0), 0, "ms", higher_is_better=False)
    value = float(np.quantile(values, q))
    return Score(metric, value, quantile_interval(values, q), len(values), "ms", higher_is_better=False)


def goodput(samples: Sequence[Sample], service_level: str) -> float:
    """Return the share of requests, failed ones included, that kept both limits of a service level."""
    return sum(keeps(sample, service_level) for sample in samples) / len(samples)


def keeps(sample: Sample, service_level: str) -> bool:
    """Say whether a request was answered within both limits of a service level."""
    ttft_limit_ms, tpot_limit_ms = SERVICE_LEVELS[service_level]
    return (
        sample.error is None
        and sample.ttft_ms is not None
        and sample.ttft_ms <= ttft_limit_ms
        and (sample.tpot_ms or 0.0) <= tpot_limit_ms
    )


def speedup(
    candidate: str, baseline: str, workload: str, ours: Sequence[Sample], theirs: Sequence[Sample], seed: int
) -> Ratio:
    """Compare median end-to-end latencies on the same prompts, paired where all were answered."""
    fast = [sample.e2e_ms for sample in answered(ours)]
    slow = [sample.e2e_ms for sample in answered(theirs)]
    paired = len(fast) == len(ours) == len(slow) == len(theirs)
    interval = ratio_interval(slow, fast, paired=paired, seed=seed)
    return Ratio(
        candidate=candidate,
        baseline=baseline,
        workload=workload,
        metric="e2e_p50_ms",
        ratio=float(np.median(slow) / np.median(fast)),
        low=interval.low,
        high=interval.high,
        level=interval.level,
    )
