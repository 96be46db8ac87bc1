"""Metrics that users bring: OpenAI's graders and functions of their own."""

from vivace.evaluate.graders.asking import Examiner, Opened
from vivace.evaluate.graders.brought import Brought, bring, brought_digests
from vivace.evaluate.graders.grading import PASSED, Graded, check, extra_metrics, grade, models_asked, read_graders
from vivace.evaluate.graders.own import OwnMetric, own_digests, read_own

__all__ = [
    "PASSED",
    "Brought",
    "Examiner",
    "Graded",
    "Opened",
    "OwnMetric",
    "bring",
    "brought_digests",
    "check",
    "extra_metrics",
    "grade",
    "models_asked",
    "own_digests",
    "read_graders",
    "read_own",
]
