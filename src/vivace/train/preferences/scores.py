"""How well a model tells liked from disliked answers, with intervals."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vivace.stats import bootstrap_statistic
from vivace.train.preferences.rows import Preferences

RESAMPLES = 1000


def auc(values: Any, good: Any) -> float:
    """Return the share of couples of a good and a bad answer in which the good one has the larger value, ties half.

    This is the area under the ROC curve (Mann & Whitney 1947); 0.5 where one kind is missing.
    """
    values, good = np.asarray(values, np.float64), np.asarray(good, bool)
    positives, negatives = int(good.sum()), int((~good).sum())
    if not (positives and negatives):
        return 0.5
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # tied values share their mean rank
    return float((ranks[good].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def accuracy(margins: Any) -> float:
    """Return the share of margins above 0, zeros counting half."""
    margins = np.asarray(margins, np.float64)
    return float((margins > 0).mean() + (margins == 0).mean() / 2)


def held_out_scores(held: Preferences, before: np.ndarray, after: np.ndarray, beta: float, seed: int) -> dict[str, Any]:
    """Return what the log-probabilities of the held-out answers, before and after, say of the model.

    A reward is beta times the log-ratio of after to before, the reward that DPO and KTO imply. Intervals draw whole
    conversations, because rows of one are alike.
    """
    tokens = np.array([row.learned for row in held.answers], np.float64)
    ratios = after - before
    facts: dict[str, Any] = {
        "answers": len(held.answers),
        # Nats; how far the model moved on answers that others wrote.
        "mean_log_ratio": float(ratios.mean()),
        "mean_log_ratio_per_token": float(ratios.sum() / tokens.sum()),
    }
    if held.pairs:
        chosen = np.array([pair.chosen for pair in held.pairs])
        rejected = np.array([pair.rejected for pair in held.pairs])
        margins = beta * (ratios[chosen] - ratios[rejected])
        draw = _by_talk([held.talks[place] for place in chosen])
        facts |= {
            "pairs": len(margins),
            "reward_margin": float(margins.mean()),
            "reward_accuracy_before": 0.5,  # every reward is 0 before
            "reward_accuracy": _told(lambda at: accuracy(margins[at]), draw, seed),
        }
    if held.ratings:
        places = np.array([rated.answer for rated in held.ratings])
        good = np.array([rated.good for rated in held.ratings])
        rewards = beta * ratios[places]
        said = {"before": (before / tokens)[places], "after": (after / tokens)[places]}
        draw = _by_talk([held.talks[place] for place in places])
        facts |= {"good": int(good.sum()), "bad": int((~good).sum())}
        if good.any() and not good.all():
            facts |= {
                "good_bad_margin": float(rewards[good].mean() - rewards[~good].mean()),
                "reward_auc_before": 0.5,
                "reward_auc": _told(lambda at: auc(rewards[at], good[at]), draw, seed),
                # Whether the model itself finds good answers likelier than bad ones, per token.
                "likelihood_auc_before": _told(lambda at: auc(said["before"][at], good[at]), draw, seed),
                "likelihood_auc": _told(lambda at: auc(said["after"][at], good[at]), draw, seed),
                "likelihood_auc_gain": _told(
                    lambda at: auc(said["after"][at], good[at]) - auc(said["before"][at], good[at]), draw, seed
                ),
            }
    return facts


def _by_talk(talks: Sequence[int]) -> list[np.ndarray]:
    """Return the places of each conversation's rows."""
    return [np.flatnonzero(np.asarray(talks) == talk) for talk in dict.fromkeys(talks)]


def _told(statistic: Callable[[np.ndarray], float], groups: list[np.ndarray], seed: int) -> dict[str, float]:
    value = statistic(np.concatenate(groups))
    interval = bootstrap_statistic(
        len(groups),
        lambda chosen: statistic(np.concatenate([groups[place] for place in chosen])),
        resamples=RESAMPLES,
        seed=seed,
    )
    return {"value": value, "low": interval.low, "high": interval.high}
