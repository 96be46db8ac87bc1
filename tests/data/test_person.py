"""Names of people: learned where they are introduced, replaced wherever they are mentioned."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.config.data import DataSettings
from vivace.data.privacy.redaction import Redactor, veil
from vivace.domain import Example, FunctionCall, Message, ToolCall

REDACTOR = Redactor(DataSettings(redact=["person"]))


def redact(*turns: str) -> list[str]:
    """Return the turns of a conversation that the customer begins, redacted."""
    roles = ("user", "assistant")
    messages = tuple(Message(roles[place % 2], text) for place, text in enumerate(turns))  # type: ignore[arg-type]
    return [message.content for message in REDACTOR.conversation().example(Example("x", messages)).messages]


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("My name is Crystal Minh.", "My name is [PERSON_1]."),
        ("my name is crystal minh", "my name is [PERSON_1]"),
        ("Hi, I'm Zoë and I wait.", "Hi, I'm [PERSON_1] and I wait."),
        ("Hello, this is Sean O'Brien speaking.", "Hello, this is [PERSON_1] speaking."),
        ("Hi Priya, it left today.", "Hi [PERSON_1], it left today."),
        ("Dear Ms. Garcia-Lopez,\nthank you", "Dear Ms. [PERSON_1],\nthank you"),
        ("I saw Dr. Johnson on Monday", "I saw Dr. [PERSON_1] on Monday"),
        ("It is late.\nKind regards,\nJane van Doe", "It is late.\nKind regards,\n[PERSON_1]"),
        ("My son Ben needs it", "My son [PERSON_1] needs it"),
        ("My name is Will. Will you help Will?", "My name is [PERSON_1]. Will you help [PERSON_1]?"),
    ],
)
def test_a_name_is_told_by_the_words_around_it(text: str, redacted: str) -> None:
    assert redact(text) == [redacted]


@pytest.mark.parametrize(
    "text",
    [
        "I'm Sorry to hear that, I am American.",
        "Hi Team, hello There! Dear Customer,",
        "This is Amazon, this is a Samsung phone.",
        "I AM FURIOUS. I'm WAITING!",
        "The name is wrong, my name is spelled differently",
        "Thank you so much. Best, and thanks again",
        "Is the hotel's name Alexis?",
        "Regards",
    ],
)
def test_words_that_are_no_names_stay(text: str) -> None:
    assert redact(text) == [text]


def test_every_mention_has_the_placeholder_of_the_person() -> None:
    turns = (
        "I am Crystal Minh, with Bob.",
        "Hi Crystal, is Mr. Smith with you?",
        "Yes, Smith and Minh. Crystal's card.",
    )
    assert redact(*turns) == [
        "I am [PERSON_1], with Bob.",
        "Hi [PERSON_1], is Mr. [PERSON_2] with you?",
        "Yes, [PERSON_2] and [PERSON_1]. [PERSON_1]'s card.",
    ]


def test_a_first_name_and_the_full_name_told_later_are_one_person() -> None:
    turns = ("Hi, I'm Crystal.", "Your full name, please?", "Crystal Minh", "Thank you Ms. Minh.", "Mr. Smith asks")
    assert redact(*turns)[2:] == ["[PERSON_1]", "Thank you Ms. [PERSON_1].", "Mr. [PERSON_2] asks"]


def test_the_reply_to_a_question_for_the_name_is_one() -> None:
    assert redact("Hi", "May I have your name?", "Crystal Minh", "Thanks Crystal!")[2:] == [
        "[PERSON_1]",
        "Thanks [PERSON_1]!",
    ]
    assert redact("Hi", "What is your full name, please?", "sure, it's crystal", "Crystal?")[2:] == [
        "sure, it's [PERSON_1]",
        "[PERSON_1]?",
    ]
    assert redact("Hi", "Could I get your name?", "Why do you ask?")[2] == "Why do you ask?"
    assert redact("Hi", "What is your order number?", "Crystal Minh")[2] == "Crystal Minh"


def test_a_name_is_replaced_in_tool_calls_results_and_metadata() -> None:
    call = ToolCall("c1", FunctionCall("book", '{"PatientName": "\\"Alexis\\"", "Name": "Old Town Inn"}'))
    example = Example(
        "x",
        (
            Message("user", "Please book for Alexis"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", '{"note": "Alexis comes at ten"}', tool_call_id="c1"),
            Message("assistant", "Done, see you at the Old Town Inn."),
        ),
        metadata={"customer_name": "crystal minh", "about": "Crystal", "hotel": "Old Town Inn"},
    )
    redacted = REDACTOR.conversation().example(example)
    assert redacted.messages[0].content == "Please book for [PERSON_1]"
    assert json.loads(redacted.messages[1].tool_calls[0].function.arguments)["PatientName"] == '"[PERSON_1]"'
    assert json.loads(redacted.messages[2].content) == {"note": "[PERSON_1] comes at ten"}
    assert redacted.messages[3] == example.messages[3]
    assert redacted.metadata == {"customer_name": "[PERSON_2]", "about": "[PERSON_2]", "hotel": "Old Town Inn"}
    assert REDACTOR.conversation().example(redacted) == redacted


def test_names_are_left_alone_unless_asked_for() -> None:
    text = "My name is Crystal Minh."
    assert Redactor(DataSettings()).text(text) == text
    assert REDACTOR.text(text) == "My name is [PERSON_1]."
    assert veil(text, REDACTOR) == "My name is ••••••• ••••."


NAMES = st.sampled_from(["Alexis", "Crystal Minh", "Zoë", "Mark", "Jean-Luc Picard", "Sean O'Brien", "Van Gogh"])
FORMS = st.sampled_from(
    ["My name is {}.", "I'm {}, hi", "Hi {}, hello", "Regards,\n{}", "Dr. {} called", "and {} again", "{}", "ask {}"]
)


@given(st.lists(st.tuples(FORMS, NAMES).map(lambda pair: pair[0].format(pair[1])) | st.text(max_size=20), max_size=5))
def test_redacting_twice_changes_nothing_more(turns: list[str]) -> None:
    once = redact(*turns)
    assert redact(*once) == once


@given(NAMES)
def test_no_part_of_a_name_that_was_told_is_left(name: str) -> None:
    parts = name.split()
    turns = redact(f"my name is {name}", f"Hello {name}, how are you, {parts[0]}?", f"it is {name}.")
    assert not any(part in turn for part in parts for turn in turns)
