"""A curve that rises and saturates, q(x) = limit - gain * (x / unit) ** -exponent, fitted to many worlds at once.

The same shape as the scaling laws of language models (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361; Hoffmann
et al. 2022, https://arxiv.org/abs/2203.15556). For a given exponent it is linear in limit and gain, so the best of each
has a closed form (variable projection, Golub & Pereyra 1973) and only the exponent is searched for, on a grid.
"""

import math

import numpy as np
from msgspec import Struct

from vivace.stats import Floats

EXPONENTS = (0.05, 4.0)
"""Bounds of the exponent: below, the curve is a line in log x; above, it is a step."""
PARAMETERS = 3
_GRID = 40
_FINER = 9
_CELLS = 4_000_000


class Curve(Struct, frozen=True):
    """The parameters of one curve; `unit` is the size at which `gain` is what is still missing to the limit."""

    limit: float
    gain: float
    exponent: float
    unit: float

    def at(self, sizes: Floats) -> Floats:
        """Return the curve's height at sizes."""
        return np.asarray(heights(self.table, sizes, self.unit)[0])

    @property
    def table(self) -> Floats:
        """The parameters as the one row of a table."""
        return np.array([[self.limit, self.gain, self.exponent]])


def unit_of(sizes: Floats) -> float:
    """Return the geometric mean of sizes."""
    return math.exp(float(np.log(sizes).mean()))


def fit(sizes: Floats, values: Floats, weights: Floats, ceiling: float = math.inf) -> Floats:
    """Return (limit, gain, exponent) for each row of `values`, shape (worlds, sizes): least weighted squares.

    The gain is not negative and the limit not above `ceiling`. Where values do not rise the gain is 0.
    """
    logs = np.log(sizes / unit_of(sizes))
    share = weights / weights.sum()
    block = max(1, _CELLS // (_GRID * len(sizes)))
    found = [_fit(logs, values[start : start + block], share, ceiling) for start in range(0, len(values), block)]
    return np.concatenate(found)


def heights(curves: Floats, sizes: Floats, unit: float) -> Floats:
    """Return the heights of curves, shape (curves, 3), at sizes: shape (curves, sizes)."""
    falling = np.exp(-curves[:, 2:] * np.log(sizes / unit)[None])
    return np.asarray(curves[:, :1] - curves[:, 1:2] * falling)


def doubling(curves: Floats, sizes: Floats, unit: float) -> Floats:
    """Return what doubling each size would bring on each curve, shape (curves, sizes)."""
    return heights(curves, 2 * sizes, unit) - heights(curves, sizes, unit)


def knees(curves: Floats, unit: float, least: float) -> Floats:
    """Return the size of each curve from which doubling brings less than `least`; 0 where it never brings as much."""
    first = curves[:, 1] * -np.expm1(-curves[:, 2] * math.log(2))  # what doubling brings at the unit
    with np.errstate(divide="ignore"):
        logs = np.log(first / least) / curves[:, 2]
    return np.asarray(unit * np.exp(np.minimum(logs, 700.0)))


def _fit(logs: Floats, values: Floats, share: Floats, ceiling: float) -> Floats:
    low, high = np.log(EXPONENTS)
    grid = np.linspace(low, high, _GRID)
    best = _best(logs, values, share, ceiling, np.broadcast_to(grid, (len(values), _GRID)))
    step = grid[1] - grid[0]
    for _round in range(3):
        around = np.log(best[:, 2:]) + np.linspace(-step, step, _FINER)[None]
        best = _best(logs, values, share, ceiling, np.clip(around, low, high))
        step = 2 * step / (_FINER - 1)
    return best


def _best(logs: Floats, values: Floats, share: Floats, ceiling: float, tried: Floats) -> Floats:
    """Return the best curve of each world among the logarithms of exponents `tried`, shape (worlds, tried)."""
    exponents = np.exp(tried)
    if (tried == tried[:1]).all():  # one grid for all worlds: shape (1, tried, sizes)
        falling = np.exp(-exponents[:1, :, None] * logs)
    else:
        falling = np.exp(-exponents[:, :, None] * logs)
    middle = values @ share
    ys = values - middle[:, None]
    mean = falling @ share
    spread = (falling**2) @ share - mean**2
    together = np.einsum("wk,wtk->wt", ys * share, np.broadcast_to(falling, (len(ys), *falling.shape[1:])))
    gain = np.maximum(0.0, -together / np.maximum(spread, 1e-300))
    limit = gain * mean
    room = np.maximum(0.0, ceiling - middle)[:, None] if math.isfinite(ceiling) else None
    if room is not None:
        square = spread + mean**2
        held = np.maximum(0.0, (room * mean - together) / square)
        over = limit > room
        gain, limit = np.where(over, held, gain), np.where(over, np.broadcast_to(room, limit.shape), limit)
    # Weighted squares of ys - limit + gain * falling, from moments.
    squares = limit**2 - 2 * limit * gain * mean + gain**2 * (spread + mean**2) + 2 * gain * together
    chosen = squares.argmin(axis=1)[:, None]
    picked = [np.take_along_axis(np.broadcast_to(each, exponents.shape), chosen, 1)[:, 0] for each in (limit, gain)]
    exponent = np.take_along_axis(exponents, chosen, 1)[:, 0]
    return np.stack((picked[0] + middle, picked[1], exponent), axis=1)
