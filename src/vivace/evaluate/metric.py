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
        "token_precision": "vivace.evaluate.metrics.token_f1:PRECISION",
        "token_recall": "vivace.evaluate.metrics.token_f1:RECALL",
        "rouge_l": "vivace.evaluate.metrics.rouge:ROUGE_L",
        "rouge_1": "vivace.evaluate.metrics.rouge:ROUGE_1",
        "rouge_2": "vivace.evaluate.metrics.rouge:ROUGE_2",
        "bleu": "vivace.evaluate.metrics.bleu:METRIC",
        "chrf": "vivace.evaluate.metrics.chrf:METRIC",
        "exact_match": "vivace.evaluate.metrics.exact_match:METRIC",
        "loss": "vivace.evaluate.metrics.loss:METRIC",
        "perplexity": "vivace.evaluate.metrics.perplexity:METRIC",
        "token_accuracy": "vivace.evaluate.metrics.token_accuracy:METRIC",
        "label_accuracy": "vivace.evaluate.metrics.label:ACCURACY",
        "label_f1": "vivace.evaluate.metrics.label:F1",
        "embedding_similarity": "vivace.evaluate.metrics.embedding_similarity:METRIC",
        "json_validity": "vivace.evaluate.metrics.json_validity:METRIC",
        "tool_call_accuracy": "vivace.evaluate.metrics.tool_call:ACCURACY",
        "tool_name_accuracy": "vivace.evaluate.metrics.tool_call:NAMES",
        "refusal_rate": "vivace.evaluate.metrics.refusal_rate:METRIC",
        "length_ratio": "vivace.evaluate.metrics.length_ratio:METRIC",
    },
)


class Scope(Struct, frozen=True):
    """The answers that a metric can say something about, and why it leaves the others out."""

    answers: list[Answer]
    reason: str = ""


class Metric(Struct, frozen=True):
    """A figure of merit.

    `rows` gives shape (answers, k); `aggregate` turns sums of rows, shape (m, k), into m values. `per_example` says
    that the aggregate of a single row means something. `compared` is False for what follows from another metric or
    has no better direction. A metric of the reference's likelihood leaves answers without one out; `scope` chooses the
    answers where it is something else than a reference with text that decides.
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
    scope: Callable[[Sequence[Answer]], Scope] | None = None

    def scored(self, answers: Sequence[Answer]) -> list[Answer]:
        """Return the answers that this metric can say something about."""
        return self.scope_of(answers).answers

    def why_missing(self, answers: Sequence[Answer]) -> str:
        """Return, as a sentence, why the metric is not told of these answers."""
        return self.scope_of(answers).reason or "Fewer than two answers can be scored."

    def scope_of(self, answers: Sequence[Answer]) -> Scope:
        """Return the answers that this metric can say something about and why not all."""
        if self.scope is not None:
            return self.scope(answers)
        return likely(answers) if self.of_likelihood else worded(answers)

    def score(self, rows: Floats, *, level: float, resamples: int, seed: int) -> Score:
        """Return the metric's value over the rows with its interval."""
        value = float(self.aggregate(rows.sum(axis=0)[None])[0])
        if self.proportion:
            interval = proportion_interval(round(rows[:, 0].sum()), len(rows), level=level)
        else:
            interval = bootstrap_rows(rows, self.aggregate, level=level, resamples=resamples, seed=seed)
        return Score(self.name, value, interval, len(rows), self.unit, self.higher_is_better)


def likely(answers: Sequence[Answer]) -> Scope:
    """Return the answers whose reference's likelihood is known, and why it is not for the others."""
    reasons = sorted({each.likelihood_error for each in answers if each.likelihood_error})
    return Scope([each for each in answers if each.logprob is not None], reasons[0] if reasons else "")


def worded(answers: Sequence[Answer]) -> Scope:
    """Return the answers that there is a text to compare with."""
    return Scope([each for each in answers if each.has_text], "Fewer than two references are text.")


def mean_metric(
    name: str,
    score: Callable[[str, str], float],
    signature: Callable[[], str],
    *,
    proportion: bool = False,
    compared: bool = True,
) -> Metric:
    """Return the metric that averages score(answer, reference) over the examples; a failure scores 0."""

    def rows(answers: Sequence[Answer]) -> Floats:
        return mean_rows([0.0 if each.failed else score(each.answer, each.reference) for each in answers])

    return Metric(name, rows, signature, proportion=proportion, compared=compared)


def stored_metric(
    name: str,
    told: str = "",
    *,
    unit: str = "",
    higher_is_better: bool = True,
    compared: bool = True,
    proportion: bool = False,
) -> Metric:
    """Return the metric that averages what `Answer.scores` has under its name: nothing is measured anew."""

    def rows(answers: Sequence[Answer]) -> Floats:
        return mean_rows([each.scores[name] for each in answers])

    def scope(answers: Sequence[Answer]) -> Scope:
        return Scope([each for each in answers if name in each.scores], "It was not graded.")

    return Metric(
        name,
        rows,
        lambda: told,
        unit=unit,
        higher_is_better=higher_is_better,
        compared=compared,
        proportion=proportion,
        scope=scope,
    )


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
