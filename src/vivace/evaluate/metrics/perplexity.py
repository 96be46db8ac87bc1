"""Perplexity: the exponential of the loss; its interval is that of the loss, carried through."""

import numpy as np

from vivace.evaluate.metric import Metric
from vivace.evaluate.metrics.loss import likelihood_rows
from vivace.stats import Floats, mean_of_rows

_LARGEST_EXPONENT = 700.0  # beyond it a float overflows


def _aggregate(sums: Floats) -> Floats:
    return np.exp(np.minimum(mean_of_rows(sums), _LARGEST_EXPONENT))


METRIC = Metric(
    "perplexity",
    likelihood_rows,
    lambda: "exp(loss)|nll:reference|eos:yes|average:tokens",
    _aggregate,
    unit="per token",
    higher_is_better=False,
    compared=False,
    of_likelihood=True,
)
