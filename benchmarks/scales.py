"""Do the intervals of a curve through several sizes of model cover the truth as often as they say?

    python -m benchmarks.scales --worlds 1000

Each world has models of known quality (a saturating curve, or none) that are asked the same questions, some harder
than others. Told is how often the 95 % intervals of the knee, of the curve at its middle and of the curve at twice the
largest size hold the truth, how wide the knee's interval is in doublings, and how often flat worlds are called else.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from vivace.evaluate.scales.curve import heights, unit_of
from vivace.evaluate.scales.drawing import bounds, drawn_values, trend_p_value, values_of
from vivace.evaluate.scales.saturation import curve_draws, knee_of
from vivace.stats import Floats, mean_of_rows, proportion_interval

TRUE = np.array([0.6, 0.12, 0.6])
SMALLEST, LARGEST = 17e6, 1.5e9
CASES = ((4, 150, 0.0), (6, 150, 0.0), (6, 400, 0.0), (6, 150, 0.03))


def main() -> None:
    """Simulate and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=300)
    chosen = parser.parse_args()
    started = time.monotonic()
    told = [_covered(*case, chosen.worlds, chosen.resamples) for case in CASES]
    found = {"cases": told, "flat": _flat(chosen.worlds), "seconds": round(time.monotonic() - started)}
    print(json.dumps(found, indent=2))


def world(rng: np.random.Generator, sizes: Floats, count: int, scatter: float, *, flat: bool = False) -> Floats:
    """Return rows (value, 1) of models on the same questions, shape (models, questions, 2)."""
    means = np.full(len(sizes), 0.5) if flat else heights(TRUE[None], sizes, unit_of(sizes))[0]
    means = means + rng.normal(0, scatter, len(sizes)) if scatter else means
    hard, noise = rng.normal(0, 0.2, count), rng.normal(0, 0.25, (len(sizes), count))
    values = means[:, None] + hard[None] + noise
    return np.stack((values, np.ones_like(values)), axis=2)


def _covered(sizes: int, count: int, scatter: float, worlds: int, resamples: int) -> dict[str, Any]:
    places = np.geomspace(SMALLEST, LARGEST, sizes)
    unit = unit_of(places)
    least = float(TRUE[1] * (1 - 2 ** -TRUE[2]))  # the knee is at the middle
    asked = np.array([unit, 2 * LARGEST])
    truth = heights(TRUE[None], asked, unit)[0]
    hits, widths = np.zeros(3), []
    for number in range(worlds):
        rows = world(np.random.default_rng(number), places, count, scatter)
        drawn = drawn_values(rows, mean_of_rows, resamples=resamples, seed=number)
        whole, curves = curve_draws(places, values_of(rows, mean_of_rows), drawn, 1.0, number)
        knee = knee_of(places, whole, curves, least, count, 0.95).interval
        low, high = bounds(heights(curves, asked, unit), count, 0.95)
        hits += [knee.low <= unit <= knee.high, *((low <= truth) & (truth <= high))]
        widths.append(np.log2(knee.high / knee.low))
    names = ("knee", "curve at the middle", "curve at twice the largest")
    covered = {name: [hit / worlds, *_interval(hit, worlds)] for name, hit in zip(names, hits, strict=True)}
    told = {"sizes": sizes, "questions": count, "scatter": scatter, "covered": covered}
    return told | {"median width of the knee in doublings": float(np.median(widths))}


def _flat(worlds: int) -> dict[str, Any]:
    places = np.geomspace(SMALLEST, LARGEST, 6)
    called = 0
    for number in range(worlds):
        rows = world(np.random.default_rng(number), places, 40, 0.0, flat=True)
        called += trend_p_value(rows, mean_of_rows, places, resamples=99, seed=number) <= 0.05
    return {"called other than flat": [called / worlds, *_interval(called, worlds)]}


def _interval(hits: float, worlds: int) -> tuple[float, float]:
    found = proportion_interval(round(hits), worlds)
    return round(found.low, 4), round(found.high, 4)


if __name__ == "__main__":
    main()
