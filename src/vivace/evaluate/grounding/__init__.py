"""Does a search find what it should, and do answers keep to what was found?"""

from vivace.evaluate.grounding.answers import Grounded, GroundingReport, measure_grounding, read_answers
from vivace.evaluate.grounding.retrieval import Retrieval, compare_retrieval, measure_retrieval
from vivace.evaluate.grounding.runs import Judgments, Run, read_judgments, read_run
from vivace.evaluate.grounding.support import Claim, Faithfulness, Weights, faithfulness

__all__ = [
    "Claim",
    "Faithfulness",
    "Grounded",
    "GroundingReport",
    "Judgments",
    "Retrieval",
    "Run",
    "Weights",
    "compare_retrieval",
    "faithfulness",
    "measure_grounding",
    "measure_retrieval",
    "read_answers",
    "read_judgments",
    "read_run",
]
