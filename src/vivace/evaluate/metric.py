"""What a metric is: rows per example whose sums give its value, so that resampling never looks at text again."""

from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from vivace.domain import Interval, Score
from vivace.evaluate.answers import Answer
from vivace.registry import Registry
from vivace.stats import Aggregate, Floats, bootstrap_rows, mean_of_rows, mean_rows, proportion_interval

METRICS = Registry(
    "metric",
    {
        "token_f1": "vivace.evaluate.metrics.token_f1:METRIC",
        "rouge_l": "vivace.evaluate.metrics.rouge:ROUGE_L",
        "rouge_1": "vivace.evaluate.metrics.rouge:ROUGE_1",
        "rouge_2": "vivace.evaluate.metrics.rouge:ROUGE_2",
        "bleu": "vivace.evaluate.metrics.bleu:METRIC",
        "chrf": "vivace.evaluate.metrics.chrf:METRIC",
        "exact_match": "vivace.evaluate.metrics.exact_match:METRIC",
        "loss": "vivace.evaluate.metrics.loss:METRIC",
        "perplexity": "vivace.evaluate.metrics.perplexity:METRIC",
        "length_ratio": "vivace.evaluate.metrics.length_ratio:METRIC",
    },
)


class Metric(Struct, frozen=True):
    """A figure of merit.

    `rows` gives shape (answers, k); `aggregate` turns sums of rows, shape (m, k), into m values. `per_example` says
    that the aggregate of a single row means something. `compared` is False for what follows from another metric or
    has no better direction. A metric of the reference's likelihood leaves answers without one out.
    """

    name: str
    rows: Callable[[Sequence[Answer]], Floats]
    signature: Callable[[], str]
    aggregate: Aggregate = mean_of_rows
    unit: str = ""
    higher_is_better: bool = True
    per_example: bool = True
    compared: bool = True
    proportion: bool = False
    of_likelihood: bool = False

    def scored(self, answers: Sequence[Answer]) -> list[Answer]:
        """Return the answers that this metric can say something about."""
        return [answer for answer in answers if answer.logprob is not None] if self.of_likelihood else list(answers)

    def score(self, rows: Floats, *, level: float, resamples: int, seed: int) -> Score:
        """Return the metric's value over the rows with its interval."""
        value = float(self.aggregate(rows.sum(axis=0)[None])[0])
        if self.proportion:
            interval = proportion_interval(round(rows[:, 0].sum()), len(rows), level=level)
        else:
            interval = bootstrap_rows(rows, self.aggregate, level=level, resamples=resamples, seed=seed)
        return Score(self.name, value, interval, len(rows), self.unit, self.higher_is_better)


def mean_metric(
    name: str,
    score: Callable[[str, str], float],
    signature: Callable[[], str],
    *,
    proportion: bool = False,
) -> Metric:
    """Return the metric that averages score(answer, reference) over the examples; a failure scores 0."""

    def rows(answers: Sequence[Answer]) -> Floats:
        return mean_rows([0.0 if each.failed else score(each.answer, each.reference) for each in answers])

    return Metric(name, rows, signature, proportion=proportion)


def usable_text(answer: Answer) -> str:
    """Return the text to score: none of a failure."""
    return "" if answer.failed else answer.answer


def per_example(metric: Metric, rows: Floats) -> list[float]:
    """Return the value of each example by itself."""
    return [float(value) for value in metric.aggregate(rows)]


def whole_range(score: Score) -> Score:
    """Return a fraction of very few examples with the interval that they deserve: all of 0 to 1."""
    return Score(
        score.metric,
        score.value,
        Interval(0.0, 1.0, score.interval.level),
        score.count,
        score.unit,
        score.higher_is_better,
    )


def integer_rows(rows: Sequence[Sequence[int]]) -> Floats:
    """Return counts as rows."""
    return np.asarray(rows, dtype=np.float64)
