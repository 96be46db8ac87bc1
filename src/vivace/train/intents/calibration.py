"""Probabilities that can be believed, and the threshold below which it is better to say nothing."""

import math
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vivace.models.encoders.intents import softmax

BINS = 15
DELTA = 0.05


class Threshold(Struct, frozen=True):
    """Guesses less probable than `value` are not given; `kept` tells whether the target is kept with 95 % confidence.

    `measured` is what the target's figure is on the messages the threshold was found on.
    """

    value: float
    kept: bool
    measured: float


def fit_temperature(logits: Any, labels: Any) -> float:
    """Return the temperature with the smallest loss, between 0.05 and 20.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599. One imagined message is spread over all rows and labels, as
    Platt 1999 does: where every guess is right, the loss would otherwise fall for ever as the temperature falls.
    """
    from scipy.optimize import minimize_scalar

    labels = np.asarray(labels)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        logs = np.log(np.maximum(softmax(logits, math.exp(log_temperature)), 1e-300))
        return float(-(len(labels) * logs[rows, labels].mean() + logs.mean()) / (len(labels) + 1))

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return float(math.exp(found.x))


def calibration_error(confidence: Any, right: Any) -> float:
    """Return the expected calibration error over 15 equal bins of confidence.

    Naeini et al. 2015; Guo et al. 2017, equation 3.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    gaps = np.abs(np.bincount(bins, right, BINS) - np.bincount(bins, confidence, BINS))
    return float(gaps.sum() / max(1, counts.sum()))


def threshold_for_precision(confidence: Any, right: Any, target: float) -> Threshold:
    """Return the smallest threshold found for which, with 95 % confidence, `target` of the answered are right.

    Selection with guaranteed risk (Geifman and El-Yaniv 2017, https://arxiv.org/abs/1705.08500, algorithm 1): a binary
    search over the messages' confidences, each look with an exact binomial bound at a share of the 5 %. Where no
    threshold passes, the one whose measured precision reaches the target with the most answers is taken (or the one
    with the best precision), and `kept` is false.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    values = np.unique(confidence)
    delta = DELTA / max(1, math.ceil(math.log2(len(confidence))))
    low, high, found = 0, len(values) - 1, None
    while low <= high:
        middle = (low + high) // 2
        answered = confidence >= values[middle]
        if _lower_bound(int(right[answered].sum()), int(answered.sum()), delta) >= target:
            found, high = middle, middle - 1
        else:
            low = middle + 1
    if found is not None:
        answered = confidence >= values[found]
        # Nothing was cut off: then nothing need be, for messages less sure than any seen either.
        return Threshold(0.0 if found == 0 else float(values[found]), True, float(right[answered].mean()))
    order = np.argsort(-confidence, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last = np.append(confidence[order][1:] != confidence[order][:-1], True)  # equal confidences stay together
    reached = np.flatnonzero(last & (precision >= target))
    place = int(reached[-1]) if len(reached) else int(np.argmax(np.where(last, precision, -1)))
    return Threshold(float(confidence[order][place]), False, float(precision[place]))


def threshold_for_coverage(confidence: Any, target: float) -> Threshold:
    """Return the threshold that a new message in scope passes with probability `target` or more.

    The split-conformal quantile (Vovk et al. 2005): the value that floor((n + 1) (1 - target)) of n messages are below.
    """
    ordered = np.sort(np.asarray(confidence, np.float64))
    below = math.floor((len(ordered) + 1) * (1 - target) + 1e-9)
    if not below:
        return Threshold(0.0, True, 1.0)
    value = float(ordered[below - 1])
    return Threshold(value, True, float((ordered >= value).mean()))


def best(logits: Any, temperature: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the likeliest label of each row and its probability."""
    shares = softmax(logits, temperature)
    return shares.argmax(axis=1), shares.max(axis=1)


def _lower_bound(right: int, count: int, delta: float) -> float:
    """Return the exact lower bound of a share at confidence 1 - delta (Clopper and Pearson 1934)."""
    from scipy.stats import beta

    return 0.0 if not right else float(beta.ppf(delta, right, count - right + 1))
