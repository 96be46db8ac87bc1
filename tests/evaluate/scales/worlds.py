"""Worlds in which it is known what size does."""

import numpy as np

from vivace.evaluate.scales.curve import heights, unit_of
from vivace.stats import Floats

SIZES = np.geomspace(17e6, 1.5e9, 6)
TRUE = np.array([0.6, 0.12, 0.6])
"""Limit, gain at the middle size, exponent."""


def knee_at_unit(curve: Floats = TRUE) -> float:
    """Return the gain per doubling that the curve has at its middle size: there the knee is."""
    return float(curve[1] * (1 - 2 ** -curve[2]))


def world(rng: np.random.Generator, sizes: Floats, curve: Floats | None, count: int, scatter: float = 0.0) -> Floats:
    """Return rows (value, 1) of models on the same questions, some of which are harder for all."""
    means = np.full(len(sizes), 0.5) if curve is None else heights(curve[None], sizes, unit_of(sizes))[0]
    means = means + rng.normal(0, scatter, len(sizes)) if scatter else means
    hard, noise = rng.normal(0, 0.2, count), rng.normal(0, 0.25, (len(sizes), count))
    values = means[:, None] + hard[None] + noise
    return np.stack((values, np.ones_like(values)), axis=2)
