"""ROUGE-1, ROUGE-2 and ROUGE-L F-measures (Lin 2004) by the rouge-score package, without stemming.

Its tokenizer keeps a to z and digits only: in other scripts the scores say nothing.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any

from vivace.evaluate.metric import Metric, mean_metric


@cache
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # 3 s: it loads NLTK

    return RougeScorer([kind], use_stemmer=False)


def _f_measure(kind: str) -> Callable[[str, str], float]:
    return lambda answer, reference: float(_scorer(kind).score(reference, answer)[kind].fmeasure)


def _metric(name: str, kind: str) -> Metric:
    return mean_metric(
        name,
        _f_measure(kind),
        lambda: f"rouge-score:{version('rouge-score')}|type:{kind}|stemmer:no|measure:f|average:examples",
    )


ROUGE_1 = _metric("rouge_1", "rouge1")
ROUGE_2 = _metric("rouge_2", "rouge2")
ROUGE_L = _metric("rouge_l", "rougeL")
