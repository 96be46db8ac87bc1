"""Swapping who is spoken of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.ethics.fakes import example
from vivace.domain import Example, FunctionCall, Message, ToolCall
from vivace.evaluate.ethics.groups import read_dimensions
from vivace.evaluate.ethics.swaps import mentioned, swap_examples, swap_text

GENDER, ETHNICITY, RELIGION, AGE, NATIONALITY = read_dimensions(
    ["gender", "ethnicity", "religion", "age", "nationality"]
)


@pytest.mark.parametrize(
    ("female", "male"),
    [
        ("She gave her book to her.", "He gave his book to him."),
        ("I told her about it, the coat is hers.", "I told him about it, the coat is his."),
        ("My WIFE hurt herself", "My HUSBAND hurt himself"),
        ("Emily and Anna are sisters", "Andrew and Peter are brothers"),
        ("Mrs. Baker asked her to call.", "Mr. Baker asked him to call."),
        ("Ask the lady. Her order is late", "Ask the gentleman. His order is late"),
    ],
)
def test_every_mention_is_swapped_in_its_case_and_grammar(female: str, male: str) -> None:
    assert swap_text(female, GENDER, "female", "male") == male
    assert swap_text(male, GENDER, "male", "female") == female


@pytest.mark.parametrize(
    "text",
    ["The shepherd is there", "emily@shop.com", "www.herself.com", "Mother's Day", "motherboard", "the-lady-x", "Theo"],
)
def test_parts_of_words_addresses_and_protected_phrases_stay(text: str) -> None:
    assert swap_text(text, GENDER, "female", "male") == text
    assert mentioned([text], GENDER) == []


def test_a_last_name_alone_is_no_mention_but_goes_along_with_the_whole_name() -> None:
    assert mentioned(["I fly to Washington tomorrow"], ETHNICITY) == []
    text = "I am Lakisha Washington. Yes, Ms Washington. Lakisha, please."
    assert swap_text(text, ETHNICITY, "african_american", "anglo") == "I am Emily Baker. Yes, Ms Baker. Emily, please."


def test_a_word_with_a_capital_letter_is_found_only_so_written() -> None:
    assert mentioned(["a cup of china"], NATIONALITY) == []
    assert mentioned(["made in China"], NATIONALITY) == ["chinese"]
    assert mentioned(["I pay by American Express"], NATIONALITY) == []


def test_all_turns_tool_calls_and_the_reference_are_swapped_alike() -> None:
    call = ToolCall("1", FunctionCall("find", '{"name": "Emily"}'))
    turns = (
        Message("user", "This is Emily."),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "found Emily", tool_call_id="1"),
        Message("assistant", "Hello Emily!"),
    )
    found = swap_examples([Example("a", turns, "test")], GENDER, at_most=9, introduce=False)
    versions = {each.group: each for each in found.versions}
    assert versions["female"].messages == turns[:-1]
    assert versions["female"].reference == "Hello Emily!"
    male = versions["male"]
    assert [turn.content for turn in male.messages] == ["This is Andrew.", "", "found Andrew"]
    assert male.messages[1].tool_calls[0].function.arguments == '{"name": "Andrew"}'
    assert male.reference == "Hello Andrew!"
    assert not male.introduced


def test_who_mentions_nobody_is_introduced_and_who_mentions_several_is_left_out() -> None:
    rows = [
        example("silent", "Where is my order?", "On its way."),
        example("both", "He and she want it", "Both?"),
        example("one", "My wife wants it", "Sure"),
    ]
    found = swap_examples(rows, GENDER, at_most=9, introduce=True)
    assert (found.mention, found.introduced, found.several) == (1, 1, 1)
    told = {each.group: each for each in found.versions if each.example == "silent"}
    assert told["female"].messages[0].content.startswith("My name is ")
    assert told["female"].messages[0].content.endswith(" Where is my order?")
    assert told["female"].messages != told["male"].messages
    assert told["female"].reference == told["male"].reference
    assert swap_examples(rows, GENDER, at_most=9, introduce=False).introduced == 0


def test_at_most_so_many_conversations_and_the_same_whatever_their_order() -> None:
    rows = [example(f"e{number}", "My wife wants it", "Sure") for number in range(20)]
    found = swap_examples(rows, GENDER, at_most=5, introduce=True)
    assert len(found.versions) == 10
    assert found.mention == 5
    assert found.introduced == 0
    assert swap_examples(rows[::-1], GENDER, at_most=5, introduce=True) == found


WORDS = ["she", "her", "my wife", "Emily", "order", "gave", "it", "to", "mother", "box", "and", "Anna"]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_nothing_of_the_group_is_left_after_a_swap(words: list[str]) -> None:
    swapped = swap_text(" ".join(words), GENDER, "female", "male")
    assert "female" not in mentioned([swapped], GENDER)
    assert len(swapped.split()) == len(" ".join(words).split())
