"""Is it right? Answers on held-out examples, scored with intervals and compared in pairs."""

from vivace.evaluate.answers import Answer
from vivace.evaluate.comparison import compare, describe, detectable, family
from vivace.evaluate.metric import METRICS, Metric
from vivace.evaluate.report import EvaluationReport, Facts, load_report, power_sentence
from vivace.evaluate.run import evaluate
from vivace.evaluate.slices import Slice

__all__ = [
    "METRICS",
    "Answer",
    "EvaluationReport",
    "Facts",
    "Metric",
    "Slice",
    "compare",
    "describe",
    "detectable",
    "evaluate",
    "family",
    "load_report",
    "power_sentence",
]
