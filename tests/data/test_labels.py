"""Labels of single conversations: right where the words are plain, silent where they tell nothing."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.labeled import row
from vivace.config.data import DataSettings
from vivace.data.labels.complexity import complexity
from vivace.data.labels.openings import opening
from vivace.data.labels.outcome import OUTCOMES, outcome
from vivace.data.labels.row_labels import labeler
from vivace.data.labels.sentiment import sentiment
from vivace.data.rows import Row
from vivace.domain import FunctionCall, Message, ToolCall


def said(*turns: str) -> tuple[Message, ...]:
    return row(*turns).example.messages


def metadata(labeled: Row) -> dict[str, object]:
    return labeled.example.metadata


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (("My kettle broke", "A new one is on its way.", "Perfect, thank you!", "You're welcome."), "resolved"),
        (("It is broken", "Restart it.", "that worked", "Good."), "resolved"),
        (("It is broken", "Restart it.", "It still doesn't work!!", "I am sorry."), "unresolved"),
        (("A refund please", "I am unable to process that."), "unresolved"),
        (("A refund please", "No.", "thanks for nothing", "Have a good day."), "unresolved"),
        (("A refund please", "I have escalated this to my supervisor.", "ok thanks", "Bye."), "escalated"),
        (("A human!", "I will transfer you to a colleague."), "escalated"),
        (("Do you open on Sunday?", "We open at nine."), "unclear"),
        (("The escalator is broken, says my manager", "I see."), "unclear"),
    ],
)
def test_the_outcome_is_told_by_the_last_turns(turns: tuple[str, ...], expected: str) -> None:
    assert outcome(said(*turns)) == expected


def test_thanks_at_the_start_do_not_resolve_anything() -> None:
    assert (
        outcome(said("Thanks for the quick reply. Where is it?", "On its way.", "And when?", "Tomorrow.")) == "unclear"
    )


def test_sentiment_is_of_the_customer_and_has_a_direction() -> None:
    assert sentiment(said("This is terrible, I hate it!", "What a wonderful day.")) == ("negative", "")
    assert sentiment(said("This is awful.", "Fixed.", "Wonderful, I love it, thanks!", "Bye."))[1] == "better"
    assert sentiment(said("I love this shop", "It is gone.", "This is horrible and sad", "Bye."))[1] == "worse"
    assert sentiment(said("The parcel is at the door.", "Yes.")) == ("neutral", "")
    assert sentiment((Message("assistant", "Hello"),)) == ("", "")


def test_complexity_counts_turns_words_questions_and_calls() -> None:
    call = ToolCall("c", FunctionCall("find", "{}"))
    assert complexity(said("When do you open?", "At nine.")) == "simple"
    assert complexity(said(*["why this? why that?", "Because."] * 3)) == "medium"
    hard = (
        *said(*["what about " + "words " * 30 + str(n) + "? and?" for n in range(12)]),
        Message("assistant", tool_calls=(call,)),
    )
    assert complexity(hard) == "complex"


def test_the_same_question_again_makes_nothing_more_complex() -> None:
    assert complexity(said("open?", "no", "Open?", "no")) == complexity(said("open?", "no", "closed", "no"))


def test_an_opening_needs_words_that_tell_something() -> None:
    assert opening(said("Hi", "Hello!", "my order 5521-77 [EMAIL_1] is broken and late", "Oh.")) == (
        "Hi my order is broken and late"
    )
    assert (
        opening(said("Where is my parcel with the kettle", "?", "Answer!", "")) == "Where is my parcel with the kettle"
    )
    assert opening((Message("assistant", "Hello"),)) == ""


def test_every_field_asked_for_is_given_and_no_other() -> None:
    turns = ("My parcel has not arrived and I am very angry about it!", "It comes today.", "Great, thank you!", "Bye.")
    told = metadata(labeler(DataSettings())(row(*turns)))
    assert told == {
        "language": "en",
        "sentiment": "positive",
        "sentiment_trend": "better",
        "outcome": "resolved",
        "complexity": "simple",
    }
    only = DataSettings.model_validate({"label": {"fields": ["outcome"]}})
    assert metadata(labeler(only)(row(*turns))) == {"outcome": "resolved"}
    nothing = DataSettings.model_validate({"label": {"fields": []}})
    assert metadata(labeler(nothing)(row(*turns))) == {}


def test_a_label_of_your_own_is_never_overwritten() -> None:
    mine = {"language": "xx", "sentiment": "mixed", "sentiment_trend": 3, "outcome": None, "complexity": ""}
    assert metadata(labeler(DataSettings())(row("I hate this so much!", "Sorry.", "Thanks!", "Bye.", **mine))) == mine


def test_english_word_lists_do_not_judge_other_languages() -> None:
    turns = (
        "Meine Kaffeemaschine ist leider schon wieder kaputt, und das finde ich sehr ärgerlich.",
        "Das tut mir leid.",
    )
    told = metadata(labeler(DataSettings(languages=["de", "en"]))(row(*turns)))
    assert told["language"] == "de"
    assert "sentiment" not in told
    assert "outcome" not in told


@given(st.lists(st.text(max_size=80), max_size=6))
def test_labeling_changes_nothing_but_metadata_and_is_idempotent(turns: list[str]) -> None:
    settings = DataSettings.model_validate({"label": {"fields": ["sentiment", "outcome", "complexity"]}})
    before = row(*turns)
    label = labeler(settings)
    once = label(before)
    assert msgspec.structs.replace(once.example, metadata={}) == before.example
    assert once.example.metadata["outcome"] in OUTCOMES
    assert label(once) == once
