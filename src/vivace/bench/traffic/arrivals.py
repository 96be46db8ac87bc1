"""When requests arrive in the open loop: offsets in seconds from the start, in order."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vivace.config.settings import BenchSettings
from vivace.errors import ConfigError


def located(settings: BenchSettings, root: Path) -> BenchSettings:
    """Return the settings with a relative trace below `root`; raises `ConfigError` where they contradict themselves."""
    if (settings.arrivals == "trace") != bool(settings.trace):
        told = f'arrivals = "{settings.arrivals}" and trace = "{settings.trace}"'
        raise ConfigError(f"[bench] says {told}.", 'A trace needs both: arrivals = "trace" and its file.')
    if settings.speed_up is not None and (settings.rate is not None or not settings.trace):
        hint = "Leave one of them out." if settings.trace else "Name the trace, or leave speed_up out."
        raise ConfigError("speed_up is for a trace whose rate is not set, as both say how fast it is replayed.", hint)
    return settings.model_copy(update={"trace": str(root / settings.trace)}) if settings.trace else settings


def arrivals(settings: BenchSettings, rate: float, count: int) -> list[float]:
    """Return arrivals of the kind that the settings name, `rate` a second on average; a trace has its own times."""
    if settings.arrivals == "constant":
        return constant(rate, count)
    variation = settings.variation if settings.arrivals == "gamma" else 1.0
    return gamma(rate, count, settings.seed, variation)


def scheduled(settings: BenchSettings, recorded_s: Sequence[float], count: int, rate: float | None) -> list[float]:
    """Return `count` arrivals at `rate`; those of a trace, whose times are `recorded_s`, as it was without one.

    A trace that is too short begins anew, one mean gap after its end.
    """
    if not recorded_s:
        if rate is None:
            raise ConfigError("The open loop needs a rate.", "Set bench.rate, or --rate.")
        return arrivals(settings, rate, count)
    lap_s = (recorded_s[-1] - recorded_s[0]) * len(recorded_s) / max(1, len(recorded_s) - 1) or 1.0
    laps = [divmod(number, len(recorded_s)) for number in range(count)]
    return trace([recorded_s[place] + lap * lap_s for lap, place in laps], speed_up=settings.speed_up or 1.0, rate=rate)


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Return arrivals of independent users, `rate` a second on average."""
    return gamma(rate, count, seed, variation=1.0)


def constant(rate: float, count: int) -> list[float]:
    """Return arrivals that all have the same gap, the first at once."""
    _check("rate", rate)
    return [number / rate for number in range(count)]


def gamma(rate: float, count: int, seed: int, variation: float) -> list[float]:
    """Return arrivals whose gaps have this coefficient of variation: above 1 in bursts, below 1 more regular."""
    _check("rate", rate)
    _check("variation", variation)
    shape = 1 / variation**2
    gaps = np.random.default_rng(seed).gamma(shape, 1 / (rate * shape), count)
    return [float(offset) for offset in np.cumsum(gaps)]


def trace(times_s: Sequence[float], *, speed_up: float = 1.0, rate: float | None = None) -> list[float]:
    """Return recorded arrival times as offsets from the first, so many times faster or so that `rate` a second come."""
    if not times_s or not all(math.isfinite(time) for time in times_s):
        raise ConfigError("A trace of arrivals needs at least one time, and only finite ones.")
    _check("speed_up", speed_up)
    ordered = sorted(times_s)
    offsets = [time - ordered[0] for time in ordered]
    if rate is not None:
        _check("rate", rate)
        # n arrivals have n - 1 gaps between them; all at one time stay so.
        speed_up = offsets[-1] * rate / (len(offsets) - 1) if offsets[-1] > 0 else 1.0
    return [offset / speed_up for offset in offsets]


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"The {name} of arrivals is {value}; it must be a number above 0.")
