"""How good is the judge? Its verdicts beside people's, and whether they may be told at all."""

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from vivace.domain import Interval, Score
from vivace.evaluate.judge.figures import Resampling, auc, crossed, grouped_rows, kappa, rank_gap, share
from vivace.evaluate.judge.opinions import Compared, Rated
from vivace.evaluate.judge.verdicts import AnswerScore, PairVerdict, unreadable
from vivace.stats import bootstrap_rows, detectable_difference, mean_of_rows, proportion_interval, standard_error
from vivace.text import normalize_words

FEWEST_GROUPS = 20  # with fewer every bootstrap interval is too short: see docs/evaluate.md
MODEST_KAPPA = 0.2
BINS = 5
SIDES = ("first", "second", "tie")


class Bin(Struct, frozen=True):
    """Answers that the judge scored alike: their mean score, and how many of them people found good."""

    low: float
    high: float
    score: float
    good: Score


class Calibration(Struct, frozen=True):
    """A judge beside people, on `count` opinions that it could read, in `groups` independent groups.

    `trusted` says whether its verdicts may be told; `sentence` says why or why not. `confusion` counts people by row
    and the judge by column, in the order of `labels`. `position` is the share of decided verdicts for the answer
    shown first; `length` is above 0 where the judge prefers long answers more than people do.
    """

    kind: str
    count: int
    groups: int
    unreadable: int
    said: tuple[str, ...]
    trusted: bool
    sentence: str
    notes: tuple[str, ...] = ()
    agreement: Score | None = None
    kappa: Score | None = None
    auc: Score | None = None
    length_auc: Score | None = None
    length: Score | None = None
    position: Score | None = None
    flips: Score | None = None
    ties: Score | None = None
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    bins: tuple[Bin, ...] = ()
    mass: float | None = None
    needed: int | None = None


def calibrate_pairs(compared: Sequence[Compared], verdicts: Sequence[PairVerdict], how: Resampling) -> Calibration:
    """Compare pairwise verdicts with people's; chance is an agreement of one half, a tie of the judge counts half."""
    bad, said = unreadable(verdicts)
    read = [(human, found) for human, found in zip(compared, verdicts, strict=True) if found.verdict != "unreadable"]
    decided = [(human, found) for human, found in read if human.preferred != "tie"]
    groups = [human.group for human, _ in decided]
    blank = Calibration("pairs", len(decided), len(set(groups)), bad, tuple(said), False, "")
    if blank.groups < FEWEST_GROUPS:
        return _too_few(blank, "comparisons of two answers", "pairwise verdicts")
    agreed = [1.0 if found.verdict == human.preferred else 0.5 * (found.verdict == "tie") for human, found in decided]
    agreement = share("agreement", agreed, groups, how)
    cells = [(SIDES.index(human.preferred), SIDES.index(str(found.verdict))) for human, found in decided]
    table = _table(cells, 3)
    cohen = kappa(table, groups, cells, how)
    trusted = agreement.interval.low > 0.5
    needed = _needed(agreement, 0.5, 0.25)
    longer = [
        (_leans(found.verdict, human.first, human.second), _leans(human.preferred, human.first, human.second))
        for human, found in decided
    ]
    length = _difference("length bias", longer, groups, how)
    position = _position([found for _, found in decided], groups, how)
    sentence = _verdict_sentence("pairwise verdicts", "comparisons", agreement, 0.5, trusted, needed, 0.25)
    return Calibration(
        kind="pairs",
        count=blank.count,
        groups=blank.groups,
        unreadable=bad,
        said=blank.said,
        trusted=trusted,
        sentence=sentence,
        notes=tuple(_bias_notes(length, position)),
        agreement=agreement,
        kappa=cohen,
        length=length,
        position=position,
        flips=share("flips", [float(found.flipped) for _, found in decided], groups, how),
        ties=share("ties", [float(found.verdict == "tie") for _, found in decided], groups, how),
        labels=SIDES,
        confusion=_counts(table),
        mass=_mass([found.mass for _, found in read]),
        needed=needed,
    )


def calibrate_scores(rated: Sequence[Rated], scores: Sequence[AnswerScore], how: Resampling) -> Calibration:
    """Compare scores with ratings: AUC, and kappa at a threshold that was chosen on other groups of ratings."""
    bad, said = unreadable(scores)
    read = [(human, found.mean) for human, found in zip(rated, scores, strict=True) if found.mean is not None]
    values = [value for _, value in read]
    good, groups = [human.good for human, _ in read], [human.group for human, _ in read]
    strata = [human.stratum for human, _ in read]
    blank = Calibration("ratings", len(read), len(set(groups)), bad, tuple(said), False, "")
    if blank.groups < FEWEST_GROUPS or not 0 < sum(good) < len(good):
        return _too_few(blank, "ratings, good and bad ones,", "scores")
    called = crossed(values, good, groups)
    cells = [(int(liked), int(judged)) for liked, judged in zip(good, called, strict=True)]
    table = _table(cells, 2)
    cohen = kappa(table, groups, cells, how)
    ranked = auc(values, good, groups, strata, how)
    lengths = [float(len(normalize_words(human.answer))) for human, _ in read]
    trusted = cohen.interval.low > 0 and ranked is not None and ranked.interval.low > 0.5
    variance = _chance_variance(good)
    needed = _needed(cohen, 0.0, variance)
    length = rank_gap(values, [float(each) for each in good], lengths, groups, how)
    words = auc(lengths, good, groups, strata, how)
    notes = _bias_notes(length, None) + _topic_notes(cohen, ranked, strata) + _word_notes(words, ranked)
    sentence = _verdict_sentence("scores", "ratings", cohen, 0.0, trusted, needed, variance)
    if ranked is None:
        notes.append("No value of `within` has both good and bad answers: nothing could be compared.")
    return Calibration(
        kind="ratings",
        count=blank.count,
        groups=blank.groups,
        unreadable=bad,
        said=blank.said,
        trusted=trusted,
        sentence=sentence,
        notes=tuple(notes),
        agreement=share("agreement", [float(human == judge) for human, judge in cells], groups, how),
        kappa=cohen,
        auc=ranked,
        length_auc=words,
        length=length,
        labels=("bad", "good"),
        confusion=_counts(table),
        bins=_bins(values, good, how),
        mass=_mass([found.mass for found in scores if found.mean is not None]),
        needed=needed,
    )


def _verdict_sentence(
    what: str, rows: str, figure: Score, chance: float, trusted: bool, needed: int | None, variance: float
) -> str:
    low, high = figure.interval.low, figure.interval.high
    told = f"{figure.metric} {figure.value:.2f} ({figure.interval.level:.0%} interval {low:.2f} to {high:.2f})"
    if trusted:
        return f"The judge's {what} agree with people more than chance does: {told}, chance is {chance:g}."
    modest, count = _for_effect(MODEST_KAPPA if chance == 0 else MODEST_KAPPA / 2, variance, figure), figure.count
    wanted = f"a judge with {figure.metric} {MODEST_KAPPA if chance == 0 else 0.6:g} would need about {modest:,}"
    if low > chance:
        return f"The judge abstains: its {figure.metric} is above chance ({told}), but its AUC is not."
    if needed is None:
        return (
            f"The judge abstains: on {count} {rows} its {told} is no better than chance ({chance:g}). If that is "
            f"what it is, no number of {rows} will change it; {wanted}."
        )
    return (
        f"The judge abstains: on {count} {rows} its {told} does not exclude chance ({chance:g}). If that is what it "
        f"is, about {needed:,} {rows} are needed to show it; {wanted}."
    )


def _too_few(blank: Calibration, rows: str, what: str) -> Calibration:
    sentence = (
        f"The judge abstains: there are {blank.count} {rows} in {blank.groups} independent conversations to measure "
        f"its {what} on; at least {FEWEST_GROUPS} conversations are needed."
    )
    return replace(blank, sentence=sentence, needed=FEWEST_GROUPS)


def _needed(figure: Score, chance: float, variance: float) -> int | None:
    """Return how many rows would exclude chance 8 times in 10 if the figure were exact; None where it is no better."""
    effect = figure.value - chance
    return None if effect <= 0.005 else _for_effect(effect, max(variance, figure.count * _variance(figure)), figure)


def _for_effect(effect: float, variance: float, figure: Score) -> int:
    """Return how many rows show an effect, by the variance that one row has."""
    detectable = detectable_difference(math.sqrt(variance), level=figure.interval.level)
    return max(FEWEST_GROUPS, math.ceil((detectable / effect) ** 2))


def _variance(figure: Score) -> float:
    return standard_error(figure.interval) ** 2


def _chance_variance(good: Sequence[bool]) -> float:
    """Return the variance of kappa per row by chance, for a judge that calls as many answers good as people do.

    Fleiss, Cohen and Everitt 1969. A judge that calls almost everything good varies less, and a better one would not.
    """
    share = sum(good) / len(good)
    agreed = share * share + (1 - share) * (1 - share)
    return agreed / (1 - agreed)


def _bias_notes(length: Score | None, position: Score | None) -> list[str]:
    notes = []
    if position is not None and (position.interval.low > 0.5 or position.interval.high < 0.5):
        order = "first" if position.value > 0.5 else "second"
        share = position.value if order == "first" else 1 - position.value
        notes.append(f"It prefers the answer that it is shown {order}: {share:.0%} of its decided verdicts.")
    if length is not None and length.interval.low > 0:
        notes.append("It prefers long answers more than people do.")
    if length is not None and length.interval.high < 0:
        notes.append("It prefers short answers more than people do.")
    return notes


def _topic_notes(cohen: Score, ranked: Score | None, strata: Sequence[str]) -> list[str]:
    if len(set(strata)) < 2 or ranked is None or ranked.interval.low > 0.5 or cohen.interval.low <= 0:
        return []
    return ["It tells topics with many good answers from topics with many bad ones, not good from bad within a topic."]


def _word_notes(words: Score | None, ranked: Score | None) -> list[str]:
    if words is None or ranked is None or max(words.value, 1 - words.value) < ranked.value:
        return []
    order = "longer" if words.value > 0.5 else "shorter"
    value = max(words.value, 1 - words.value)
    return [f"Taking the {order} answer for the better one would do as well: AUC {value:.2f} by words alone."]


def _leans(side: str, first: str, second: str) -> float:
    """Return 1 where the longer answer is preferred, 0 where the shorter one is, a half for neither."""
    gap = len(normalize_words(first)) - len(normalize_words(second))
    if side == "tie" or gap == 0:
        return 0.5
    return float((side == "first") == (gap > 0))


def _difference(name: str, pairs: Sequence[tuple[float, float]], groups: Sequence[str], how: Resampling) -> Score:
    rows = grouped_rows([(judged - human, 1.0) for judged, human in pairs], groups)
    value = float(rows[:, 0].sum() / rows[:, 1].sum())
    interval = bootstrap_rows(rows, mean_of_rows, level=how.level, resamples=how.resamples, seed=how.seed)
    return Score(name, value, interval, len(pairs))


def _position(found: Sequence[PairVerdict], groups: Sequence[str], how: Resampling) -> Score | None:
    leading, decided = sum(each.leading for each in found), sum(each.decided for each in found)
    if not decided:
        return None
    rows = grouped_rows([(each.leading, each.decided) for each in found], groups)
    interval = bootstrap_rows(rows, mean_of_rows, level=how.level, resamples=how.resamples, seed=how.seed)
    value = leading / decided
    if interval.low == interval.high:
        count = int(np.count_nonzero(rows[:, 1]))
        wilson = proportion_interval(round(value * count), count, level=how.level)
        interval = Interval(min(value, wilson.low), max(value, wilson.high), how.level)
    return Score("first shown preferred", value, interval, decided)


def _bins(values: Sequence[float], good: Sequence[bool], how: Resampling) -> tuple[Bin, ...]:
    """Return fifths of the answers by score; the same scores stay together."""
    scores, liked = np.asarray(values), np.asarray(good)
    cuts = np.unique(np.quantile(scores, np.arange(1, BINS) / BINS))
    places = np.searchsorted(cuts, scores, side="left")
    made = []
    for place in np.unique(places):
        inside = places == place
        count, hits = int(inside.sum()), int(liked[inside].sum())
        shown = Score("good", hits / count, proportion_interval(hits, count, level=how.level), count)
        own = scores[inside]
        made.append(Bin(float(own.min()), float(own.max()), float(own.mean()), shown))
    return tuple(made)


def _table(cells: Sequence[tuple[int, int]], size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    table = np.zeros((size, size))
    for human, judge in cells:
        table[human, judge] += 1
    return table


def _counts(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(cell) for cell in row) for row in table)


def _mass(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
