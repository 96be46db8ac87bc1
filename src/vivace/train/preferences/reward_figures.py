"""How far rewards agree with people, with intervals, and what length has to do with it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.stats import bootstrap_statistic
from vivace.train.preferences.rows import Preferences
from vivace.train.preferences.weights import even_pairs, even_ratings

RESAMPLES = 1000
BINS = 10

Floats = NDArray[np.float64]


def agreement(held: Preferences, rewards: Floats) -> float:
    """Return the share of pairs told right and the area under the ROC curve of ratings, by their numbers.

    Longer and shorter liked answers count alike.
    """
    parts = []
    if held.pairs:
        parts.append((_pair_accuracy(held, rewards, even=True)(np.arange(len(held.pairs))), len(held.pairs)))
    if held.ratings:
        parts.append((_rating_auc(held, rewards, even=True)(np.arange(len(held.ratings))), len(held.ratings)))
    return sum(value * count for value, count in parts) / sum(count for _, count in parts)


def held_out_figures(held: Preferences, scores: Floats, seed: int) -> dict[str, Any]:
    """Return what the scores of held-out answers are worth; intervals draw whole conversations."""
    tokens = np.array([row.learned for row in held.answers], np.float64)
    figures: dict[str, Any] = {
        "pairs": len(held.pairs),
        "ratings": len(held.ratings),
        "length_correlation": correlation(scores, tokens),
        "calibration_error": calibration_error(held, scores),
    }
    liked: list[tuple[float, float]] = []
    if held.pairs:
        chosen = np.array([pair.chosen for pair in held.pairs])
        rejected = np.array([pair.rejected for pair in held.pairs])
        talks = [held.talks[place] for place in chosen]
        figures["accuracy"] = _told(_pair_accuracy(held, scores, even=False), talks, seed)
        figures["even_accuracy"] = _told(_pair_accuracy(held, scores, even=True), talks, seed)
        shorter = np.flatnonzero(tokens[chosen] < tokens[rejected])
        if len(shorter):
            all_of = _pair_accuracy(held, scores, even=False)
            figures["shorter_liked_accuracy"] = _told(
                lambda at: all_of(shorter[at]), [talks[place] for place in shorter], seed
            )
        liked += [(tokens[place], 1.0) for place in chosen] + [(tokens[place], 0.0) for place in rejected]
    if held.ratings:
        talks = [held.talks[rated.answer] for rated in held.ratings]
        figures["good"] = sum(rated.good for rated in held.ratings)
        if 0 < figures["good"] < len(held.ratings):
            figures["auc"] = _told(_rating_auc(held, scores, even=False), talks, seed)
            figures["even_auc"] = _told(_rating_auc(held, scores, even=True), talks, seed)
        liked += [(tokens[rated.answer], float(rated.good)) for rated in held.ratings]
    lengths, good = np.array(liked).T
    figures["liked_length_correlation"] = correlation(lengths, good)
    return figures


def deciding(figures: dict[str, Any]) -> tuple[str, dict[str, float]] | None:
    """Return the figure that tells whether the scores beat chance (0.5): that of the kind there is more of."""
    kinds = [(figures["pairs"], "even_accuracy"), (figures["ratings"], "even_auc")]
    for _count, name in sorted(kinds, reverse=True):
        if name in figures:
            return name, figures[name]
    return None


def fit_scale(held: Preferences, rewards: Floats) -> tuple[float, float]:
    """Return (scale, offset) that make rewards log-odds: of a pair's margin, and of an answer being good.

    Platt 1999: logistic regression on held-out answers, with an imagined item of each outcome; the scale is above 0,
    so the order of answers stays. Without ratings the offset centers the scores.
    """
    from scipy.optimize import minimize

    pairs = np.array([rewards[pair.chosen] - rewards[pair.rejected] for pair in held.pairs])
    rated = np.array([rewards[rated.answer] for rated in held.ratings])
    sides = np.array([1.0 if rated.good else -1.0 for rated in held.ratings])
    count = len(pairs) + len(rated)

    def loss(values: Floats) -> float:
        scale, offset = math.exp(values[0]), float(values[1])
        odds = np.concatenate([scale * pairs, scale * rated + offset])
        right = np.concatenate([np.ones(len(pairs)), sides])
        said = np.logaddexp(0, -right * odds).mean()
        other = np.logaddexp(0, right * odds).mean()
        return float(((count + 1) * said + other) / (count + 2))

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"maxiter": 2000})
    scale = float(math.exp(np.clip(found.x[0], -6, 6)))
    return scale, float(found.x[1]) if len(rated) else -scale * float(rewards.mean())


def calibration_error(held: Preferences, scores: Floats) -> float:
    """Return the expected calibration error of what the scores say, over 10 bins of confidence."""
    odds = [scores[pair.chosen] - scores[pair.rejected] for pair in held.pairs]
    truth = [True] * len(odds) + [rated.good for rated in held.ratings]
    odds += [scores[rated.answer] for rated in held.ratings]
    sure = 1 / (1 + np.exp(-np.abs(np.array(odds))))
    right = (np.array(odds) > 0) == np.array(truth)
    bins = np.minimum(((sure - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = np.abs(np.bincount(bins, right.astype(float), BINS) - np.bincount(bins, sure, BINS))
    return float(gaps.sum() / len(sure))


def correlation(a: Floats, b: Floats) -> float:
    """Return Pearson's correlation, 0 where one side does not vary."""
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() and b.std() else 0.0


def _pair_accuracy(held: Preferences, rewards: Floats, *, even: bool) -> Callable[[NDArray[np.int64]], float]:
    pairs = even_pairs(held, 0.0)[0] if even else held.pairs
    shares = np.array([pair.share for pair in pairs])
    margins = np.array([rewards[pair.chosen] - rewards[pair.rejected] for pair in pairs])
    right = (margins > 0) + 0.5 * (margins == 0)

    def statistic(at: NDArray[np.int64]) -> float:
        return float((shares[at] * right[at]).sum() / shares[at].sum())

    return statistic


def weighted_auc(values: Floats, good: NDArray[np.bool_], shares: Floats) -> float:
    """Return the share of couples of a good and a bad answer in which the good one has the larger value, ties half.

    A couple weighs the product of its shares; 0.5 where one kind is missing.
    """
    if good.all() or not good.any():
        return 0.5
    _, places = np.unique(values, return_inverse=True)
    goods = np.bincount(places, np.where(good, shares, 0.0))
    bads = np.bincount(places, np.where(good, 0.0, shares))
    return float((goods * (np.cumsum(bads) - bads / 2)).sum() / (goods.sum() * bads.sum()))


def _rating_auc(held: Preferences, rewards: Floats, *, even: bool) -> Callable[[NDArray[np.int64]], float]:
    ratings = even_ratings(held, 0.0)[0] if even else held.ratings
    shares = np.array([rated.share for rated in ratings])
    good = np.array([rated.good for rated in ratings])
    values = np.array([rewards[rated.answer] for rated in ratings])
    return lambda at: weighted_auc(values[at], good[at], shares[at])


def _told(statistic: Callable[[NDArray[np.int64]], float], talks: list[int], seed: int) -> dict[str, float]:
    """Return a statistic with its interval over conversations."""
    groups = [np.flatnonzero(np.array(talks) == talk) for talk in dict.fromkeys(talks)]
    interval = bootstrap_statistic(
        len(groups),
        lambda chosen: statistic(np.concatenate([groups[place] for place in chosen])),
        resamples=RESAMPLES,
        seed=seed,
    )
    return {"value": statistic(np.arange(len(talks))), "low": interval.low, "high": interval.high}
