"""A model that judges answers, and how far it agrees with people."""

from vivace.evaluate.judge.asking import Question, Verdict, ask_all, parse_option
from vivace.evaluate.judge.calibration import Calibration, calibrate_pairs, calibrate_scores
from vivace.evaluate.judge.figures import Resampling
from vivace.evaluate.judge.opinions import Compared, Opinions, Rated, from_examples, gather
from vivace.evaluate.judge.page import markdown, page
from vivace.evaluate.judge.ratings_file import read_ratings
from vivace.evaluate.judge.results import JudgeReport, Scored, WinRate, win_rate
from vivace.evaluate.judge.verdicts import AnswerScore, Pair, PairVerdict

__all__ = [
    "AnswerScore",
    "Calibration",
    "Compared",
    "JudgeReport",
    "Opinions",
    "Pair",
    "PairVerdict",
    "Question",
    "Rated",
    "Resampling",
    "Scored",
    "Verdict",
    "WinRate",
    "ask_all",
    "calibrate_pairs",
    "calibrate_scores",
    "from_examples",
    "gather",
    "markdown",
    "page",
    "parse_option",
    "read_ratings",
    "win_rate",
]
