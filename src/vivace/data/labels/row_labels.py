"""The labels that one conversation tells by itself."""

from collections.abc import Callable

import msgspec

from vivace.config.data import DataSettings
from vivace.data.labels.complexity import complexity
from vivace.data.labels.outcome import outcome
from vivace.data.labels.sentiment import sentiment
from vivace.data.rows import Row
from vivace.data.steps.language import detect
from vivace.domain import Message

UNDECIDED = "und"  # ISO 639-2
ENGLISH = ("en", UNDECIDED)
LANGUAGE_CHARS = 200  # enough to tell, and the detector's cost grows with length

Labeler = Callable[[Row], Row]


def labeler(settings: DataSettings) -> Labeler:
    """Return what labels a row with the fields that the settings name, `topic` excepted.

    A field that the row has already is left as it is. Sentiment and outcome are given to English conversations only.
    """
    fields: set[str] = set(settings.label.fields)
    wanted = frozenset(code.lower() for code in settings.languages)

    def label(row: Row) -> Row:
        found = _labels(row.example.messages, fields - row.example.metadata.keys(), row.example.metadata, wanted)
        if not found:
            return row
        example = msgspec.structs.replace(row.example, metadata={**row.example.metadata, **found})
        return Row(example, row.group, row.held_out)

    return label


def _labels(
    messages: tuple[Message, ...], fields: set[str], own: dict[str, object], wanted: frozenset[str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    if "language" in fields:
        text = " ".join(message.content for message in messages if message.role == "user")
        found["language"] = detect(text[:LANGUAGE_CHARS], wanted)[0] or UNDECIDED
    # The word lists of both are English: elsewhere they would say "neutral" and "unclear" of everything.
    english = {**found, **own}.get("language", UNDECIDED) in ENGLISH
    if "sentiment" in fields and english:
        feeling, trend = sentiment(messages)
        if feeling:
            found["sentiment"] = feeling
        if trend and "sentiment_trend" not in own:
            found["sentiment_trend"] = trend
    if "outcome" in fields and english:
        found["outcome"] = outcome(messages)
    if "complexity" in fields:
        found["complexity"] = complexity(messages)
    return found
