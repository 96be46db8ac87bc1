"""How well intents are told, with intervals: of all messages, of each intent, and of what is answered at all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.stats import bootstrap_statistic, proportion_interval
from vivace.train.intents.labels import OUT

RESAMPLES = 1000
PAIRS = 15

Numbers = NDArray[np.int64]


def macro_f1(truth: Any, guessed: Any, count: int) -> float:
    """Return the mean F1 of the intents that occur, each counting alike; labels are 0 to `count` - 1."""
    truth, guessed = np.asarray(truth), np.asarray(guessed)
    said = np.bincount(truth, minlength=count)
    hits = np.bincount(truth[truth == guessed], minlength=count)
    given = np.bincount(guessed, minlength=count)
    occurs = said > 0
    return float((2 * hits[occurs] / (said + given)[occurs]).mean()) if occurs.any() else 0.0


def in_scope_figures(truth: Any, guessed: Any, count: int, seed: int) -> dict[str, Any]:
    """Return accuracy and macro F1 on messages that have an intent, with 95 % intervals."""
    truth, guessed = np.asarray(truth), np.asarray(guessed)
    right = truth == guessed
    f1 = bootstrap_statistic(
        len(truth), lambda at: macro_f1(truth[at], guessed[at], count), resamples=RESAMPLES, seed=seed
    )
    return {
        "messages": len(truth),
        "accuracy": _share(int(right.sum()), len(truth)),
        "macro_f1": {"value": macro_f1(truth, guessed, count), "low": f1.low, "high": f1.high},
    }


def compared(truth: Any, guessed: Any, other: Any, count: int, seed: int) -> dict[str, Any]:
    """Return by how much one set of guesses is better than another on the same messages, with paired intervals."""
    truth, guessed, other = np.asarray(truth), np.asarray(guessed), np.asarray(other)

    def told(difference: Any) -> dict[str, float]:
        interval = bootstrap_statistic(len(truth), difference, resamples=RESAMPLES, seed=seed)
        return {"value": difference(np.arange(len(truth))), "low": interval.low, "high": interval.high}

    return {
        "accuracy_gain": told(lambda at: float(((guessed == truth)[at].mean()) - (other == truth)[at].mean())),
        "macro_f1_gain": told(
            lambda at: macro_f1(truth[at], guessed[at], count) - macro_f1(truth[at], other[at], count)
        ),
    }


def selective_figures(truth: Any, guessed: Any, confidence: Any, threshold: float) -> dict[str, Any]:
    """Return what abstaining comes to: messages out of scope are right only where nothing is answered."""
    truth, guessed, confidence = np.asarray(truth), np.asarray(guessed), np.asarray(confidence)
    answered, within = confidence >= threshold, truth != OUT
    right = answered & (guessed == truth)
    figures: dict[str, Any] = {
        "precision": _share(int(right.sum()), int(answered.sum())),
        "precision_in_scope": _share(int(right.sum()), int((answered & within).sum())),
        "coverage_in_scope": _share(int((answered & within).sum()), int(within.sum())),
        "out_of_scope": int((~within).sum()),
    }
    if not within.all():
        figures["out_of_scope_recall"] = _share(int((~answered & ~within).sum()), int((~within).sum()))
        figures["out_of_scope_auc"] = out_of_scope_auc(truth, confidence)
    return figures


def out_of_scope_auc(truth: Any, confidence: Any) -> float | None:
    """Return how often a message in scope has more confidence than one out of scope, None where one kind is missing."""
    from sklearn.metrics import roc_auc_score

    within = np.asarray(truth) != OUT
    return float(roc_auc_score(within, confidence)) if within.any() and not within.all() else None


def per_intent(truth: Any, guessed: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each intent on messages in scope, the worst first."""
    from sklearn.metrics import precision_recall_fscore_support

    figures = precision_recall_fscore_support(truth, guessed, labels=range(len(names)), zero_division=0.0)
    rows = [
        {"intent": name, "precision": float(p), "recall": float(r), "f1": float(f), "messages": int(n)}
        for name, p, r, f, n in zip(names, *figures, strict=True)
    ]
    return sorted(rows, key=lambda row: (row["f1"], row["intent"]))


def confused(truth: Any, guessed: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the pairs of intents most often taken for one another, both directions together."""
    from collections import Counter

    pairs: Counter[tuple[int, int]] = Counter()
    for told, taken in zip(np.asarray(truth).tolist(), np.asarray(guessed).tolist(), strict=True):
        if told != taken:
            pairs[min(told, taken), max(told, taken)] += 1
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [{"intents": [names[one], names[other]], "messages": count} for (one, other), count in ordered[:PAIRS]]


def _share(part: int, whole: int) -> dict[str, float] | None:
    if not whole:
        return None
    interval = proportion_interval(part, whole)
    return {"value": part / whole, "low": interval.low, "high": interval.high}
