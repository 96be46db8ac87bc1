"""How the customer feels, and whether that got better: VADER, for English.

Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text".
"""

from functools import cache
from typing import Any

from vivace.domain import Message

MAX_CHARS = 500  # of a turn; VADER's cost grows with length
THRESHOLD = 0.05  # the authors' own limits of negative and positive
TREND_THRESHOLD = 0.3


def sentiment(messages: tuple[Message, ...]) -> tuple[str, str]:
    """Return `negative`, `neutral` or `positive`, and the trend `better`, `same` or `worse`; "" where there is none.

    The sentiment is the mean compound of the customer's first and last two turns, the trend the last minus the first.
    """
    turns = [message.content for message in messages if message.role == "user" and message.content]
    if not turns:
        return "", ""
    compounds = [_compound(turn) for turn in (turns if len(turns) <= 3 else [turns[0], *turns[-2:]])]
    mean = sum(compounds) / len(compounds)
    name = "negative" if mean <= -THRESHOLD else "positive" if mean >= THRESHOLD else "neutral"
    if len(compounds) < 2:
        return name, ""
    change = compounds[-1] - compounds[0]
    return name, "better" if change >= TREND_THRESHOLD else "worse" if change <= -TREND_THRESHOLD else "same"


def _compound(text: str) -> float:
    return float(_analyzer().polarity_scores(text[:MAX_CHARS])["compound"])


@cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
