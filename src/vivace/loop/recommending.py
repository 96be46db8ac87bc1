"""From what was measured of base models to a recommendation with reasons, honest where noise decides."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Comparison, Interval, Score
from vivace.loop.measuring import Measured
from vivace.stats import (
    Floats,
    bootstrap_rows,
    holm,
    mean_of_rows,
    paired_bootstrap_rows,
    paired_permutation_rows,
    ratio_interval,
)

Purpose = Literal["quality", "speed", "balance"]
QUALITY_PER_DOUBLING = 0.05
"""With `balance`, half the time per answer is worth so much more bits per byte."""
_FEWEST = 2


class Ratio(Struct, frozen=True):
    """How many times as long as `baseline` a model takes for the same answers."""

    candidate: str
    baseline: str
    ratio: float
    interval: Interval


class Verdict(Struct, frozen=True):
    """The models that were measured, compared and judged.

    `scores` are bits per byte of the reference answers, lower is better; `comparisons` and `ratios` pair every two
    models, positive differences are better. `answer_s` is the median time for a reference answer.
    """

    scores: dict[str, Score]
    comparisons: tuple[Comparison, ...]
    answer_s: dict[str, float]
    ratios: tuple[Ratio, ...]
    dominated: dict[str, str]
    choice: str
    reasons: tuple[str, ...]


def judge(measured: Sequence[Measured], purpose: Purpose, settings: EvaluateSettings) -> Verdict | None:
    """Return the verdict on models measured on the same examples; None when nothing can be said of any."""
    rows, answers = paired_rows(measured), answer_times(measured)
    names = [name for name in rows if name in answers]
    if not names:
        return None
    scores = {name: _score(rows[name], settings) for name in names}
    comparisons = _comparisons({name: rows[name] for name in names}, settings)
    answer_s = {name: float(np.median(answers[name])) for name in names}
    ratios = tuple(_ratio(answers, one, other, settings) for one in names for other in names if one != other)
    dominated = _dominated(names, comparisons, ratios)
    left = [name for name in names if name not in dominated]
    choice, reasons = _choose(left, purpose, scores, comparisons, answer_s, ratios)
    return Verdict(scores, comparisons, answer_s, ratios, dominated, choice, tuple(reasons))


def paired_rows(measured: Sequence[Measured]) -> dict[str, Floats]:
    """Return rows of (bits, bytes) on the examples that every model could be asked, shape (examples, 2)."""
    known = {item.name: {each.id: each for each in item.likely if not each.error} for item in measured if item.likely}
    known = {name: found for name, found in known.items() if found}
    if not known:
        return {}
    ids = sorted(set.intersection(*(set(found) for found in known.values())))
    if len(ids) < _FEWEST:
        return {}
    return {name: np.array([[found[i].bits, found[i].bytes] for i in ids]) for name, found in known.items()}


def answer_times(measured: Sequence[Measured]) -> dict[str, list[float]]:
    """Return the seconds of each timed prompt's reference answer: first token, then the model's own count of tokens.

    Tokens per second are not comparable between tokenizers; the time for the same text is.
    """
    tokens = {(each.model, each.id): each.tokens for item in measured for each in item.likely if not each.error}
    times: dict[str, dict[str, float]] = {}
    for item in measured:
        for sample in item.samples:
            count = tokens.get((item.name, sample.request_id.split("/", 2)[2]))
            if count and sample.ttft_ms is not None and sample.tpot_ms is not None:
                seconds = (sample.ttft_ms + (count - 1) * sample.tpot_ms) / 1e3
                times.setdefault(item.name, {})[sample.request_id] = seconds
    shared = set.intersection(*(set(found) for found in times.values())) if times else set()
    return {name: [found[i] for i in sorted(shared)] for name, found in times.items() if shared}


def rates(item: Measured) -> tuple[float | None, float | None]:
    """Return tokens per second of reading a prompt and of writing an answer, None where nothing was timed."""
    good = [each for each in item.samples if each.error is None and each.first_token_s is not None]
    read_s = sum((each.first_token_s or 0.0) - each.sent_s for each in good)
    write_s = sum(each.finished_s - (each.first_token_s or 0.0) for each in good)
    read, written = sum(each.prompt_tokens for each in good), sum(each.completion_tokens - 1 for each in good)
    return (read / read_s if read_s > 0 else None), (written / write_s if write_s > 0 else None)


def _score(rows: Floats, settings: EvaluateSettings) -> Score:
    value = float(mean_of_rows(rows.sum(axis=0)[None])[0])
    interval = bootstrap_rows(
        rows, mean_of_rows, level=settings.confidence, resamples=settings.resamples, seed=settings.seed
    )
    return Score("bits_per_byte", value, interval, len(rows), "bits per byte", higher_is_better=False)


def _comparisons(rows: Mapping[str, Floats], settings: EvaluateSettings) -> tuple[Comparison, ...]:
    """Compare every two models on the same examples, corrected (Holm) for how many comparisons that makes."""

    def better(sums: Floats) -> Floats:
        return -mean_of_rows(sums)

    pairs = list(combinations(rows, 2))
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    values = [paired_permutation_rows(rows[one], rows[other], better, **options) for one, other in pairs]
    made = []
    for (one, other), p_value, adjusted in zip(pairs, values, holm(values), strict=True):
        interval = paired_bootstrap_rows(rows[one], rows[other], better, level=settings.confidence, **options)
        sums = [better(rows[name].sum(axis=0)[None])[0] for name in (one, other)]
        difference = float(sums[0] - sums[1])
        count = len(rows[one])
        made.append(Comparison("bits_per_byte", one, other, difference, interval, p_value, adjusted, count))
    return tuple(made)


def _ratio(answers: Mapping[str, list[float]], one: str, other: str, settings: EvaluateSettings) -> Ratio:
    interval = ratio_interval(
        answers[one], answers[other], paired=True, level=settings.confidence, resamples=settings.resamples
    )
    return Ratio(one, other, float(np.median(answers[one]) / np.median(answers[other])), interval)


def outcome(comparisons: Sequence[Comparison], one: str, other: str) -> str:
    """Return whether `one` is `better` or `worse` than `other` in quality, or `noise`."""
    for each in comparisons:
        if (each.candidate, each.baseline) == (one, other):
            return each.outcome
        if (each.candidate, each.baseline) == (other, one):
            return {"better": "worse", "worse": "better"}.get(each.outcome, "noise")
    return "noise"


def _slower(ratios: Sequence[Ratio], one: str, other: str) -> bool:
    """Tell whether `one` takes longer than `other` beyond noise."""
    return any(each.interval.low > 1 for each in ratios if (each.candidate, each.baseline) == (one, other))


def _dominated(names: Sequence[str], comparisons: Sequence[Comparison], ratios: Sequence[Ratio]) -> dict[str, str]:
    """Return the models that another one beats in both, beyond noise, with that other one."""
    found = {}
    for one in names:
        by = [
            other
            for other in names
            if other != one and outcome(comparisons, one, other) == "worse" and _slower(ratios, one, other)
        ]
        if by:
            found[one] = by[0]
    return found


def _choose(
    names: Sequence[str],
    purpose: Purpose,
    scores: Mapping[str, Score],
    comparisons: Sequence[Comparison],
    answer_s: Mapping[str, float],
    ratios: Sequence[Ratio],
) -> tuple[str, list[str]]:
    best = min(names, key=lambda name: scores[name].value)
    fastest = min(names, key=lambda name: answer_s[name])
    if len(names) == 1:
        return best, ["It is the only one left."]
    if purpose == "quality":
        equal = [name for name in names if name == best or outcome(comparisons, name, best) == "noise"]
        choice = min(equal, key=lambda name: answer_s[name])
        rule = "Rule: the fewest bits per byte; among those that cannot be told from it, the fastest."
        return choice, [rule, *_ties(equal, scores[best].count, "quality", choice, best)]
    if purpose == "speed":
        equal = [name for name in names if name == fastest or not _slower(ratios, name, fastest)]
        choice = min(equal, key=lambda name: scores[name].value)
        rule = (
            "Rule: the shortest time for an answer; among those that cannot be told from it, the fewest bits per byte."
        )
        return choice, [rule, *_ties(equal, scores[best].count, "speed", choice, fastest)]

    def price(name: str) -> float:
        return math.log(scores[name].value) / math.log1p(QUALITY_PER_DOUBLING) + math.log2(answer_s[name])

    choice = min(names, key=price)
    rule = f"Rule: half the time for an answer is worth {QUALITY_PER_DOUBLING:.0%} more bits per byte."
    return choice, [rule, *_balance(choice, best, fastest, scores, comparisons, answer_s)]


def _ties(equal: Sequence[str], count: int, what: str, choice: str, first: str) -> list[str]:
    others = [name for name in equal if name != choice]
    if not others:
        return []
    told = f"{choice} and {', '.join(others)} cannot be told apart in {what}"
    why = "" if choice == first else f"; {choice} is ahead in the other figure"
    return [f"{told} by {count} examples{why}." if what == "quality" else f"{told}{why}."]


def _balance(
    choice: str,
    best: str,
    fastest: str,
    scores: Mapping[str, Score],
    comparisons: Sequence[Comparison],
    answer_s: Mapping[str, float],
) -> list[str]:
    told = []
    if choice != best:
        more = scores[choice].value / scores[best].value - 1
        sure = "" if outcome(comparisons, choice, best) == "worse" else ", which may be noise"
        told.append(
            f"{best} needs {answer_s[best] / answer_s[choice]:.1f}x its time; {choice} has {more:.1%} more bits per "
            f"byte{sure}."
        )
    if choice != fastest:
        less = 1 - scores[choice].value / scores[fastest].value
        sure = "" if outcome(comparisons, choice, fastest) == "better" else ", which may be noise"
        told.append(
            f"{choice} needs {answer_s[choice] / answer_s[fastest]:.1f}x the time of {fastest} for {less:.1%} fewer "
            f"bits per byte{sure}."
        )
    return told or [f"{choice} is ahead in both."]
