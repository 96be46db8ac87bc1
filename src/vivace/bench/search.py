"""Search the highest rate of one responder, whatever it is: an engine behind its layers, or a server."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vivace.bench.capacity import Capacity, Goal, Probe, find_rate, probe, settle
from vivace.bench.load import closed_loop
from vivace.bench.summary import answered, keeps
from vivace.bench.traffic.arrivals import scheduled
from vivace.bench.traffic.prompts import Work
from vivace.config.settings import BenchSettings
from vivace.domain import Progress, Responder
from vivace.errors import EngineError

HARDLY_ANY = 0.1
"""At this share of what one user alone gets requests hardly meet: a lower rate gains nothing."""
ALONE = 3
"""Requests that are sent one after the other first, to know where to begin and what is usual."""


async def search(
    responder: Responder,
    work: Work,
    settings: BenchSettings,
    recorded_s: Sequence[float],
    goal: Goal,
    journal: Path,
    progress: Progress,
) -> Capacity:
    """Return the highest rate that keeps the goal; the search begins at the set rate, or at what one user alone gets.

    Before each probe the server must answer one request alone about as fast as at first. Raises `EngineError` where it
    answers nothing or does not recover.
    """
    alone = await closed_loop(responder, work.requests(ALONE, "alone"), 1, lambda: None)
    times_ms = [sample.e2e_ms for sample in answered(alone.samples)]
    if not times_ms:
        raise EngineError(f"None of {ALONE} requests was answered: {alone.samples[0].error}")
    usual_ms = float(np.median(times_ms))
    alone_per_s = 1e3 / usual_ms
    kept = sum(keeps(sample, goal.service_level) for sample in alone.samples)
    if not kept:  # one user alone is too many: at a lower rate nothing gets faster
        reason = "One request alone is out of the service level."
        lost = Probe(alone_per_s, ALONE, ALONE, 0, "missed", alone.seconds, reason, ALONE - len(times_ms))
        return Capacity(None, alone_per_s, goal, (lost,))

    async def measure(rate: float, count: int) -> Probe:
        (again,) = work.requests(1, f"settle-{rate:.6g}")
        await settle(responder, again, usual_ms)
        offsets = scheduled(settings, recorded_s, count, rate)
        return await probe(responder, work.requests(count, f"probe-{rate:.6g}"), offsets, rate, goal)

    first = settings.rate or alone_per_s
    return await find_rate(measure, first, goal, journal, progress, lowest=min(first, HARDLY_ANY * alone_per_s))
