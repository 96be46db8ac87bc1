"""When requests arrive in the open loop: offsets in seconds from the start, in order."""

import math
from collections.abc import Sequence

import numpy as np

from vivace.errors import ConfigError


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Return arrivals of independent users, `rate` a second on average."""
    return gamma(rate, count, seed, variation=1.0)


def gamma(rate: float, count: int, seed: int, variation: float) -> list[float]:
    """Return arrivals whose gaps have this coefficient of variation: above 1 in bursts, below 1 more regular."""
    for name, value in (("rate", rate), ("variation", variation)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"The {name} of arrivals is {value}; it must be a number above 0.")
    shape = 1 / variation**2
    gaps = np.random.default_rng(seed).gamma(shape, 1 / (rate * shape), count)
    return [float(offset) for offset in np.cumsum(gaps)]


def trace(times_s: Sequence[float]) -> list[float]:
    """Return recorded arrival times as offsets from the first."""
    if not times_s or not all(math.isfinite(time) for time in times_s):
        raise ConfigError("A trace of arrivals needs at least one time, and only finite ones.")
    ordered = sorted(times_s)
    return [time - ordered[0] for time in ordered]
