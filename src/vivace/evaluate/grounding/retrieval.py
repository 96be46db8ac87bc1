"""How well a search finds what it should: recall, precision, MRR, nDCG, MAP by ir-measures, with intervals."""

from collections.abc import Sequence

from msgspec import Struct

from vivace.domain import Comparison, Interval, Score
from vivace.errors import ConfigError, DataError
from vivace.evaluate.comparison import family
from vivace.evaluate.grounding.runs import Judgments, Run
from vivace.stats import bootstrap_mean, paired_bootstrap, paired_permutation, proportion_interval

CUTS = (1, 5, 10)
FEWEST = 2


class Retrieval(Struct, frozen=True):
    """Scores of a run over its judged queries; `queries` holds the value of each measure by query.

    `unanswered` are judged queries that the run lacks (they count 0), `unjudged` queries of the run without a
    relevant document in the judgments (they count nowhere).
    """

    name: str
    scores: tuple[Score, ...]
    queries: dict[str, dict[str, float]]
    unanswered: tuple[str, ...]
    unjudged: tuple[str, ...]


def measure_retrieval(
    name: str,
    run: Run,
    judgments: Judgments,
    *,
    cuts: Sequence[int] = CUTS,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Retrieval:
    """Return R@k, P@k and nDCG@k at each cut, RR (its mean is the MRR) and AP (its mean is the MAP).

    Documents of one score are ordered as trec_eval does. Raises `DataError` where fewer than two queries have a
    relevant document.
    """
    import ir_measures
    from ir_measures import AP, RR, P, R, nDCG

    if not cuts or any(cut < 1 for cut in cuts):
        raise ConfigError(f"Cuts are {list(cuts)}; each must be at least 1.")
    judged = {query: found for query, found in judgments.items() if any(found.values())}
    if len(judged) < FEWEST:
        raise DataError(
            f"The judgments have {len(judged)} queries with a relevant document; an interval needs two.",
            "Judge more queries.",
        )
    if not judged.keys() & run.keys():
        raise DataError(
            f"The run and the judgments have no query in common: {next(iter(run))!r} against {next(iter(judged))!r}.",
            "Use the same query ids in both.",
        )
    measures = [*(kind @ cut for kind in (R, P, nDCG) for cut in sorted(set(cuts))), RR, AP]
    values: dict[str, dict[str, float]] = {query: {} for query in sorted(judged)}
    kept = {query: found for query, found in run.items() if query in judged and found}
    for found in ir_measures.iter_calc(measures, judged, kept):
        values[found.query_id][str(found.measure)] = float(found.value)
    scores = [
        _score(str(measure), [own[str(measure)] for own in values.values()], level, resamples, seed)
        for measure in measures
    ]
    return Retrieval(
        name,
        tuple(scores),
        values,
        tuple(sorted(judged.keys() - kept.keys())),
        tuple(sorted(run.keys() - judged.keys())),
    )


def compare_retrieval(
    first: Retrieval, second: Retrieval, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> list[Comparison]:
    """Return one comparison per measure on the same queries, p-values corrected over the measures."""
    if first.queries.keys() != second.queries.keys():
        raise DataError("The two runs were measured on different queries.", "Use the same judgments for both.")
    made = []
    for score in first.scores:
        ours, theirs = ([each.queries[query][score.metric] for query in first.queries] for each in (first, second))
        gap = paired_bootstrap(ours, theirs, level=level, resamples=resamples, seed=seed)
        p_value = paired_permutation(ours, theirs, resamples=resamples, seed=seed)
        difference = (sum(ours) - sum(theirs)) / len(ours)
        made.append(Comparison(score.metric, first.name, second.name, difference, gap, p_value, p_value, len(ours)))
    return family(made)


def _score(name: str, values: Sequence[float], level: float, resamples: int, seed: int) -> Score:
    mean = sum(values) / len(values)
    interval = bootstrap_mean(values, level=level, resamples=resamples, seed=seed)
    if interval.low == interval.high:
        # All queries alike: the bootstrap has nothing to draw from, the truth may be a little off all the same.
        wilson = proportion_interval(round(mean * len(values)), len(values), level=level)
        interval = Interval(min(mean, wilson.low), max(mean, wilson.high), level)
    return Score(name, mean, interval, len(values))
