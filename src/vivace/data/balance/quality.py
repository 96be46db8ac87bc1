"""How good a conversation is to learn from, as one number that anyone can follow."""

import math

from vivace.data.rows import Row, is_answer

WEIGHTS = {"length": 0.25, "outcome": 0.25, "feeling": 0.15, "label": 0.2, "own words": 0.15}
SHORT_WORDS, GOOD_WORDS, LONG_WORDS = 3, 12, 200
_OUTCOMES = {"resolved": 1.0, "unclear": 0.6, "escalated": 0.4, "unresolved": 0.0}
_TRENDS = {"better": 1.0, "same": 0.5, "worse": 0.0}
_SENTIMENTS = {"positive": 1.0, "neutral": 0.5, "negative": 0.25}
UNKNOWN_OUTCOME = 0.6
UNKNOWN_FEELING = 0.5


def quality(row: Row, *, doubt: float = 0.0, repeats: int = 1) -> float:
    """Return the quality of a row, from 0 to 1: a weighted mean of five parts.

    - length (0.25): mean words of an answer; 0 up to 3, 1 from 12 to 200, falling towards 0 beyond.
    - outcome (0.25): resolved 1, unclear or unknown 0.6, escalated 0.4, unresolved 0.
    - feeling (0.15): the trend, better 1, same 0.5, worse 0; else the sentiment; unknown 0.5.
    - label (0.2): 1 minus `doubt`, the score of a suspicious label.
    - own words (0.15): 1 by the root of `repeats`, how often its last answer stands in the dataset.
    """
    metadata = row.example.metadata
    parts = {
        "length": _length(row),
        "outcome": _OUTCOMES.get(str(metadata.get("outcome")), UNKNOWN_OUTCOME),
        "feeling": _TRENDS.get(
            str(metadata.get("sentiment_trend")), _SENTIMENTS.get(str(metadata.get("sentiment")), UNKNOWN_FEELING)
        ),
        "label": 1 - doubt,
        "own words": 1 / math.sqrt(max(1, repeats)),
    }
    return sum(WEIGHTS[name] * part for name, part in parts.items())


def _length(row: Row) -> float:
    answers = [len(message.content.split()) for message in row.example.messages if is_answer(message)]
    if not answers:
        return 0.0
    words = sum(answers) / len(answers)
    if words > LONG_WORDS:
        return LONG_WORDS / words
    return min(1.0, max(0.0, (words - SHORT_WORDS) / (GOOD_WORDS - SHORT_WORDS)))
