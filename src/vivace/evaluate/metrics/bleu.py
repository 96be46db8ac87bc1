"""Corpus BLEU (Papineni et al. 2002) by sacrebleu, resampled over its sufficient statistics."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric, integer_rows, usable_text
from vivace.stats import Floats


def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True)  # no warning about answers that end in ' .'


def _rows(answers: Sequence[Answer]) -> Floats:
    """Return (answer tokens, reference tokens, 4 matches, 4 totals) per answer, as sacrebleu's own tests use them."""
    said, wanted = [usable_text(answer) for answer in answers], [answer.reference for answer in answers]
    return integer_rows(_bleu()._extract_corpus_statistics(said, [wanted]))


def _aggregate(sums: Floats) -> Floats:
    metric = _bleu()
    return np.array([metric._compute_score_from_stats([int(cell) for cell in row]).score for row in np.rint(sums)])


def _signature() -> str:
    metric = _bleu()
    metric.corpus_score(["a"], [["a"]])  # the signature exists once the number of references is known
    return str(metric.get_signature())


METRIC = Metric("bleu", _rows, _signature, _aggregate, unit="points", per_example=False)
