"""Loss: mean negative log-likelihood per token of the reference answers, end of turn included."""

from collections.abc import Sequence

import numpy as np

from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric
from vivace.stats import Floats


def likelihood_rows(answers: Sequence[Answer]) -> Floats:
    """Return (negative log-likelihood in nats, tokens) per reference; zeros where the engine could not tell."""
    pairs = [(0.0, 0.0) if each.logprob is None else (-each.logprob, float(each.token_count)) for each in answers]
    return np.array(pairs, dtype=np.float64).reshape(len(pairs), 2)


METRIC = Metric(
    "loss",
    likelihood_rows,
    lambda: "nll:reference|eos:yes|average:tokens",
    unit="nats/token",
    higher_is_better=False,
    of_likelihood=True,
)
