"""Corpus chrF2 (Popović 2015) by sacrebleu, resampled over its sufficient statistics."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric, integer_rows, usable_text
from vivace.stats import Floats


def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _rows(answers: Sequence[Answer]) -> Floats:
    """Return, per answer, (answer, reference, matching) character n-grams for each order from 1 to 6."""
    said, wanted = [usable_text(answer) for answer in answers], [answer.reference for answer in answers]
    return integer_rows(_chrf()._extract_corpus_statistics(said, [wanted]))


def _aggregate(sums: Floats) -> Floats:
    metric = _chrf()
    return np.array([metric._compute_score_from_stats([int(cell) for cell in row]).score for row in np.rint(sums)])


def _signature() -> str:
    metric = _chrf()
    metric.corpus_score(["a"], [["a"]])  # the signature exists once the number of references is known
    return str(metric.get_signature())


METRIC = Metric("chrf", _rows, _signature, _aggregate, unit="points")
