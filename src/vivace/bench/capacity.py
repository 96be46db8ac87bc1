"""The highest rate of requests at which a service level holds: doubling, then bisection, each probe an open loop."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from vivace.bench.load import Done, Sample, closed_loop, send
from vivace.bench.summary import answered, keeps
from vivace.domain import Progress, Request, Responder
from vivace.domain.release import SERVICE_LEVELS
from vivace.errors import EngineError
from vivace.stats import proportion_interval
from vivace.store.files import append_line, read_journal

BRACKET = 1.10
"""The search ends when the lowest rate that missed is at most so many times the highest that held."""
FEWEST_REQUESTS = 20
LOWEST_RATE, HIGHEST_RATE = 0.001, 5000.0
TICK_S = 0.1
SETTLE_S = 120.0

Held = Literal["held", "missed"]


class Goal(Struct, frozen=True):
    """What a rate must keep: the share of requests within a named service level, measured for so many seconds.

    An empty level stands for that of [bench] until it is filled in.
    """

    service_level: str = ""
    goodput: float = 0.99
    probe_s: float = 30.0


class Probe(Struct, frozen=True):
    """One rate tried out; `kept` of the `decided` requests were within the service level, `planned` were to be sent.

    `reason` says why a probe ended early or missed although enough were kept.
    """

    rate: float
    planned: int
    decided: int
    kept: int
    verdict: Held
    seconds: float
    reason: str = ""
    failed: int = 0
    ttft_p95_ms: float | None = None
    tpot_p95_ms: float | None = None
    e2e_p95_ms: float | None = None
    late_p99_ms: float = 0.0
    """How late the load generator itself sent."""

    @property
    def goodput(self) -> float:
        """Share of the decided requests that were within the service level."""
        return self.kept / self.decided if self.decided else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the goodput."""
        found = proportion_interval(self.kept, self.decided) if self.decided else None
        return (found.low, found.high) if found else (0.0, 1.0)


class Capacity(Struct, frozen=True):
    """What a search found: the highest rate that held, the lowest that missed, and every probe in its order."""

    held: float | None
    missed: float | None
    goal: Goal
    probes: tuple[Probe, ...]
    resumed: bool = False

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        ttft_ms, tpot_ms = SERVICE_LEVELS[self.goal.service_level]
        level = f"`{self.goal.service_level}` (TTFT ≤ {ttft_ms:,.0f} ms, TPOT ≤ {tpot_ms:,.0f} ms)"
        what = f"{self.goal.goodput:.1%} of the requests within {level}"
        if self.held is None:
            return f"No rate kept {what}; the lowest tried was {self.missed:.3g} requests/s."
        upper = f"; at {self.missed:.3g} they did not" if self.missed is not None else ", and no rate tried missed it"
        best = next(each for each in self.probes if each.rate == self.held and each.verdict == "held")
        low, high = best.interval
        told = (
            f"{self.held:.3g} requests/s kept {what}{upper}. Goodput there: {best.goodput:.1%} [{low:.1%}, {high:.1%}]"
        )
        if low >= self.goal.goodput:
            return f"{told}."
        return f"{told}, which rests on {best.decided} requests: longer probes tell more."


Measure = Callable[[float, int], Awaitable[Probe]]
"""Try a rate with so many requests."""


async def find_rate(
    measure: Measure, first: float, goal: Goal, journal: Path, progress: Progress, lowest: float = LOWEST_RATE
) -> Capacity:
    """Search from the rate `first` down to `lowest`; finished probes are kept in `journal`, so a search can go on."""
    probes = [msgspec.json.decode(line, type=Probe) for line in read_journal(journal)]
    resumed = bool(probes)
    with progress.task("Searching the highest rate", total=None) as bar:
        while (rate := next_rate(probes, first, lowest)) is not None:
            bar.note(f"{rate:.3g} requests/s")
            probe = await measure(rate, max(FEWEST_REQUESTS, math.ceil(rate * goal.probe_s)))
            append_line(journal, msgspec.json.encode(probe))
            probes.append(probe)
            progress.say(f"{rate:.3g} requests/s: goodput {probe.goodput:.1%}, {probe.verdict}. {probe.reason}".strip())
            bar.advance()
    held, missed = bounds(probes)
    return Capacity(held, missed, goal, tuple(probes), resumed)


def bounds(probes: Sequence[Probe]) -> tuple[float | None, float | None]:
    """Return the highest rate that held below the lowest that missed, and that one."""
    missed = min((probe.rate for probe in probes if probe.verdict == "missed"), default=None)
    below = [probe.rate for probe in probes if probe.verdict == "held" and (missed is None or probe.rate < missed)]
    return max(below, default=None), missed


def next_rate(probes: Sequence[Probe], first: float, lowest: float = LOWEST_RATE) -> float | None:
    """Return the rate to try next, None at the end: doubled or halved until one held and one missed, then between."""
    if not probes:
        return min(max(first, lowest), HIGHEST_RATE)
    held, missed = bounds(probes)
    if missed is None:
        assert held is not None
        return None if held >= HIGHEST_RATE else min(2 * held, HIGHEST_RATE)
    if held is None:
        return None if missed <= lowest else max(missed / 2, lowest)
    return None if missed / held <= BRACKET * (1 + 1e-9) else math.sqrt(held * missed)


class Watch:
    """Looks on while requests are in work: has the goal been missed for good, does the queue grow without end?"""

    def __init__(self, planned: int, goal: Goal, planned_s: float) -> None:
        self._allowed = planned * (1 - goal.goodput) + 1e-9
        self._level = goal.service_level
        self._limit_s = SERVICE_LEVELS[goal.service_level][0] / 1e3
        self._planned_s = planned_s
        self._history: list[tuple[float, int]] = []
        self.waiting: dict[int, float] = {}
        self.in_work = 0
        self.samples: list[Sample] = []

    def landed(self, sample: Sample) -> None:
        """Note a request that is over."""
        self.samples.append(sample)

    def late(self, now_s: float) -> int:
        """Return how many requests wait longer for their first token than the service level allows."""
        return sum(now_s - intended_s > self._limit_s for intended_s in self.waiting.values())

    def lost(self, now_s: float) -> int:
        """Return how many requests are out of the service level for certain."""
        return sum(not keeps(sample, self._level) for sample in self.samples) + self.late(now_s)

    def verdict(self, now_s: float) -> str:
        """Return why it is of no use to go on, "" while it is."""
        if now_s <= self._planned_s:  # behind the last arrival the queue only empties
            self._history.append((now_s, self.in_work))
        lost = self.lost(now_s)
        if lost > self._allowed:
            return f"Ended early: {lost} requests were out of the service level by then, more than the goal allows."
        if now_s > 0.5 * self._planned_s and self.grows():
            return "Ended early: more requests came than were answered, so the queue grew without end."
        return ""

    def grows(self, deviations: float = 4.0) -> bool:
        """Say whether the requests in work grew beyond chance from the second to the last quarter so far."""
        times = [sample.finished_s - sample.intended_s for sample in answered(self.samples)]
        # The first third: in a queue that grows the later ones hold the wait that is looked for.
        return bool(times) and grows(self._history, float(np.mean(times[: -(-len(times) // 3)])), deviations)


def grows(history: Sequence[tuple[float, int]], answer_s: float, deviations: float) -> bool:
    """Say whether a queue grows, from (second, requests in work) at even steps and how long an answer takes.

    By Little's law the number in work stays the same on average while the server keeps up, and scatters like a
    Poisson variable; counts that are less than an answer apart are one observation.
    """
    if len(history) < 8:
        return False
    span_s = history[-1][0] - history[0][0]
    if answer_s > span_s / 4:
        return False  # still filling up: nothing can be told
    counts = np.array([count for _second, count in history], dtype=float)
    quarter = len(counts) // 4
    earlier, later = counts[quarter : 2 * quarter].mean(), counts[-quarter:].mean()
    independent = max(1.0, span_s / 4 / answer_s)
    return bool(
        later > 1.5 * earlier and later - earlier > max(2.0, deviations * math.sqrt((earlier + 1) / independent))
    )


async def probe(
    responder: Responder,
    requests: Sequence[Request],
    offsets_s: Sequence[float],
    rate: float,
    goal: Goal,
    done: Done = lambda: None,
) -> Probe:
    """Send the requests at their offsets and judge; ends as soon as the goal cannot be met any more."""
    watch = Watch(len(requests), goal, offsets_s[-1])
    start = perf_counter()
    async with _sending(responder, requests, offsets_s, watch, start, done) as feeder:
        reason = ""
        while not reason and not (feeder.done() and watch.in_work == 0):
            await asyncio.sleep(TICK_S)
            reason = watch.verdict(perf_counter() - start)
        seconds = perf_counter() - start
        late = watch.late(seconds)
    kept = sum(keeps(sample, goal.service_level) for sample in watch.samples)
    decided = len(watch.samples) + late
    if not reason and watch.grows(deviations=3.0):  # asked once, not at every tick
        reason = "More requests came than were answered: at this rate the queue grows."
    enough = kept >= goal.goodput * decided - 1e-9
    good = answered(watch.samples)
    return Probe(
        rate=rate,
        planned=len(requests),
        decided=decided,
        kept=kept,
        verdict="held" if enough and not reason else "missed",
        seconds=seconds,
        reason=reason or ("" if enough else "Too few requests were within the service level."),
        failed=len(watch.samples) - len(good),
        ttft_p95_ms=_p95([sample.ttft_ms for sample in good]),
        tpot_p95_ms=_p95([sample.tpot_ms for sample in good]),
        e2e_p95_ms=_p95([sample.e2e_ms for sample in good]),
        late_p99_ms=lateness_ms(watch.samples),
    )


@asynccontextmanager
async def _sending(
    responder: Responder,
    requests: Sequence[Request],
    offsets_s: Sequence[float],
    watch: Watch,
    start: float,
    done: Done,
) -> AsyncGenerator["asyncio.Task[None]", None]:
    """Send meanwhile; whoever is still in work at the end is called off."""

    async def one(number: int, request: Request, intended_s: float) -> None:
        def first() -> None:
            watch.waiting.pop(number, None)

        watch.waiting[number] = intended_s
        watch.in_work += 1
        try:
            watch.landed(await send(responder, request, start, intended_s, first))
            done()
        finally:
            watch.waiting.pop(number, None)
            watch.in_work -= 1

    tasks: set[asyncio.Task[None]] = set()

    async def feed() -> None:
        for number, (request, offset_s) in enumerate(zip(requests, offsets_s, strict=True)):
            await asyncio.sleep(start + offset_s - perf_counter())
            tasks.add(asyncio.create_task(one(number, request, offset_s)))
        await asyncio.sleep(0)

    feeder = asyncio.create_task(feed())
    try:
        yield feeder
    finally:
        feeder.cancel()
        for task in tasks:
            task.cancel()
        found = await asyncio.gather(feeder, *tasks, return_exceptions=True)
        broken = [each for each in found if isinstance(each, Exception)]
        if broken:
            raise broken[0]


async def settle(responder: Responder, request: Request, usual_ms: float) -> None:
    """Wait until one request alone is answered about as fast as usual, after a probe that overran the server."""
    start = perf_counter()
    while True:
        run = await closed_loop(responder, [request], 1, lambda: None)
        (sample,) = run.samples
        if sample.error is None and sample.e2e_ms <= max(3 * usual_ms, usual_ms + 250):
            return
        if perf_counter() - start > SETTLE_S:
            reason = sample.error or f"one request alone takes {sample.e2e_ms:,.0f} ms, {usual_ms:,.0f} before"
            raise EngineError(
                f"The server did not recover within {SETTLE_S:.0f} s after it was overloaded: {reason}.",
                "What was measured is kept: the same command goes on from there.",
            )
        await asyncio.sleep(1.0)


def lateness_ms(samples: Sequence[Sample]) -> float:
    """Return how late the load generator sent, at p99: its own part in the latencies of an open loop."""
    late = [sample.sent_s - sample.intended_s for sample in samples]
    return float(np.quantile(late, 0.99)) * 1e3 if late else 0.0


def _p95(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.quantile(known, 0.95)) if known else None
