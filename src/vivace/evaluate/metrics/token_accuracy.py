"""Token accuracy: the share of the references' tokens that the model itself would have chosen, end of turn included.

Each token is judged after the reference up to it, not after the model's own answer (teacher forcing).
"""

from collections.abc import Sequence

import numpy as np

from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric, Scope, likely
from vivace.stats import Floats


def _scope(answers: Sequence[Answer]) -> Scope:
    known = likely(answers)
    told = [each for each in known.answers if each.greedy_count is not None]
    if len(told) < len(known.answers):
        return Scope(told, "The engine tells how likely a token is, but not which one it would choose.")
    return Scope(told, known.reason)


def _rows(answers: Sequence[Answer]) -> Floats:
    """Return (tokens it would have chosen, tokens) per reference; zeros where the engine could not tell."""
    pairs = [(0, 0) if each.greedy_count is None else (each.greedy_count, each.token_count) for each in answers]
    return np.array(pairs, dtype=np.float64).reshape(len(pairs), 2)


METRIC = Metric(
    "token_accuracy",
    _rows,
    lambda: "greedy:reference|eos:yes|average:tokens",
    of_likelihood=True,
    scope=_scope,
)
