"""What a judge that may speak says: win rates and scores of candidates, and everything it was measured on."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from vivace.domain import Comparison, Score
from vivace.evaluate.judge.calibration import Calibration
from vivace.evaluate.judge.figures import Resampling, share, sign_test
from vivace.evaluate.judge.verdicts import AnswerScore, PairVerdict, unreadable
from vivace.stats import bootstrap_mean, holm, paired_bootstrap, paired_permutation


class WinRate(Struct, frozen=True):
    """How often a candidate's answer was better than the baseline's, a tie counting half; `p_value` is two-sided."""

    candidate: str
    baseline: str
    rate: Score
    wins: int
    losses: int
    ties: int
    flipped: int
    unreadable: int
    p_value: float
    p_adjusted: float

    @property
    def outcome(self) -> str:
        """`better`, `worse` or `noise` at the 5 % level after correction."""
        if self.p_adjusted >= 0.05:
            return "noise"
        return "better" if self.rate.value > 0.5 else "worse"


class Scored(Struct, frozen=True):
    """What the judge scored the answers of a candidate, by criterion; an answer it could not read counts nowhere."""

    candidate: str
    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]
    unreadable: int


class JudgeReport(Struct, frozen=True):
    """Everything about a judge; `win_rates` and `scored` are empty where it abstains."""

    judge: str
    model: str
    engine: str
    read: str
    pairs: Calibration
    ratings: Calibration
    left_out: dict[str, int]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()
    win_rates: tuple[WinRate, ...] = ()
    scored: tuple[Scored, ...] = ()

    @property
    def speaks(self) -> bool:
        """Whether at least one kind of its verdicts may be told."""
        return self.pairs.trusted or self.ratings.trusted


def win_rate(
    names: tuple[str, str], verdicts: Sequence[PairVerdict], groups: Sequence[str], how: Resampling
) -> WinRate | None:
    """Return how often the first of two candidates wins; None where no verdict could be read."""
    read = [(found, group) for found, group in zip(verdicts, groups, strict=True) if found.verdict != "unreadable"]
    if not read:
        return None
    told, kept = [found.verdict for found, _ in read], [group for _, group in read]
    values = [1.0 if side == "first" else 0.5 if side == "tie" else 0.0 for side in told]
    p_value = sign_test([float(s == "first") for s in told], [float(s == "second") for s in told], kept, how)
    return WinRate(
        names[0],
        names[1],
        share("win rate", values, kept, how),
        told.count("first"),
        told.count("second"),
        told.count("tie"),
        sum(found.flipped for found, _ in read),
        unreadable(verdicts)[0],
        p_value,
        p_value,
    )


def family(rates: Sequence[WinRate]) -> tuple[WinRate, ...]:
    """Return win rates with p-values corrected for how many there are."""
    adjusted = holm([each.p_value for each in rates])
    return tuple(replace(each, p_adjusted=value) for each, value in zip(rates, adjusted, strict=True))


def scored(
    names: tuple[str, str], ours: Sequence[AnswerScore], theirs: Sequence[AnswerScore], how: Resampling
) -> Scored:
    """Return a candidate's scores, 1 to 5, and how they compare with the baseline's on the same questions."""
    scores, comparisons = [], []
    for criterion in ours[0].criteria if ours else ():
        pairs = [
            (one, other)
            for mine, yours in zip(ours, theirs, strict=True)
            if (one := mine.criteria[criterion]) is not None and (other := yours.criteria[criterion]) is not None
        ]
        own = [value for mine in ours if (value := mine.criteria[criterion]) is not None]
        if len(pairs) < 2:
            continue
        first, second = [one for one, _ in pairs], [other for _, other in pairs]
        interval = bootstrap_mean(own, level=how.level, resamples=how.resamples, seed=how.seed)
        scores.append(Score(criterion, sum(own) / len(own), interval, len(own), "of 5"))
        gap = paired_bootstrap(first, second, level=how.level, resamples=how.resamples, seed=how.seed)
        p_value = paired_permutation(first, second, resamples=how.resamples, seed=how.seed)
        difference = (sum(first) - sum(second)) / len(pairs)
        comparisons.append(Comparison(criterion, *names, difference, gap, p_value, p_value, len(pairs)))
    return Scored(names[0], tuple(scores), tuple(comparisons), unreadable(ours)[0])
