"""How much each pair or rating counts: against length bias, and against many more good than bad answers."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

from vivace.train.batches.rows import Row
from vivace.train.preferences.rows import Pair, Preferences, Rated
from vivace.train.preferences.scores import auc

MAX_RATIO = 4 / 3


class LengthBias(Struct, frozen=True):
    """How far length alone tells which answer is liked.

    `longer_preferred` is the share of pairs (for ratings: of all couples of a good and a bad answer) whose liked
    answer has more tokens, equal lengths counting half; `correlation` is Pearson's of tokens and being liked.
    """

    longer_preferred: float
    correlation: float
    reweighted: bool


def even_pairs(preferences: Preferences, limit: float) -> tuple[tuple[Pair, ...], LengthBias]:
    """Return the pairs weighed so that longer and shorter liked answers count alike, if the bias is above `limit`."""
    lengths = _lengths(preferences.answers)
    pairs = preferences.pairs
    sides = np.array([np.sign(lengths[pair.chosen] - lengths[pair.rejected]) for pair in pairs])
    longer, shorter = int((sides > 0).sum()), int((sides < 0).sum())
    share = float((sides > 0).mean() + (sides == 0).mean() / 2)
    places = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    correlation = _correlation(lengths[places], np.repeat([1.0, 0.0], len(pairs)))
    biased = share > 0.5 + limit and shorter > 0
    if biased:
        decided = (longer + shorter) / 2
        weights = {1: decided / longer, -1: decided / shorter, 0: 1.0}
        pairs = tuple(
            msgspec.structs.replace(pair, share=pair.share * weights[int(side)])
            for pair, side in zip(pairs, sides, strict=True)
        )
    return pairs, LengthBias(share, correlation, biased)


def even_ratings(preferences: Preferences, limit: float) -> tuple[tuple[Rated, ...], LengthBias]:
    """Return the ratings weighed so that long and short answers are good equally often, if need be."""
    ratings = preferences.ratings
    lengths = _lengths(preferences.answers)[[rated.answer for rated in ratings]]
    good = np.array([rated.good for rated in ratings])
    share = auc(lengths, good)
    long = _long(lengths, good) if share > 0.5 + limit else None
    if long is not None:
        kinds = list(zip(long.tolist(), good.tolist(), strict=True))
        counts = Counter(kinds)
        expected = {(far, liked): float((long == far).mean() * (good == liked).sum()) for far, liked in counts}
        ratings = tuple(
            msgspec.structs.replace(rated, share=rated.share * expected[kind] / counts[kind])
            for rated, kind in zip(ratings, kinds, strict=True)
        )
    return ratings, LengthBias(share, _correlation(lengths, good.astype(float)), long is not None)


def class_weights(ratings: Sequence[Rated]) -> tuple[float, float]:
    """Return KTO's weights of good and bad answers.

    Their total weights stand in a ratio of 1 to 4/3, as in section 4 of Ethayarajh et al. 2024 (arXiv 2402.01306); the
    kind there is too little of weighs more than 1.
    """
    good = sum(rated.share for rated in ratings if rated.good)
    bad = sum(rated.share for rated in ratings if not rated.good)
    if good < bad:
        return bad / good, 1.0
    return 1.0, max(1.0, good / bad / MAX_RATIO)


def _long(lengths: np.ndarray, good: np.ndarray) -> np.ndarray | None:
    """Tell which answers are long, split as near the middle as leaves both kinds on both sides; None if none does."""
    for limit in sorted(set(lengths.tolist()), key=lambda limit: abs((lengths > limit).mean() - 0.5)):
        long: np.ndarray = lengths > limit
        if len(set(zip(long.tolist(), good.tolist(), strict=True))) == 4:
            return long
    return None


def _lengths(answers: Sequence[Row]) -> np.ndarray:
    return np.array([row.learned for row in answers], np.float64)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if not (a.std() and b.std()):
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
