"""Composition: counted right, with the people spoken of, and unevenness told in numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.labeled import row
from vivace.config.data import DataSettings
from vivace.data.balance.composition import NONE, Share, composition, length_bucket
from vivace.data.balance.group_terms import GroupTerms
from vivace.data.balance.warnings import warnings


def test_fields_are_counted_the_largest_first() -> None:
    rows = [row("a b", "c", intent="refund", outcome="resolved")] * 3 + [row("a b", "c", intent="gift"), row("a", "b")]
    told = composition(iter(rows), DataSettings())
    assert told.conversations == 5
    assert list(told.fields["intent"].items()) == [
        ("refund", Share(3, 0.6)),
        (NONE, Share(1, 0.2)),
        ("gift", Share(1, 0.2)),
    ]
    assert told.fields["outcome"] == {"resolved": Share(3, 0.6), NONE: Share(2, 0.4)}
    assert told.fields["length"] == {"1-50 words": Share(5, 1.0)}
    assert "topic" not in told.fields


def test_your_own_intent_field_is_counted() -> None:
    settings = DataSettings.model_validate({"label": {"intent_field": "flow"}})
    told = composition([row("a", "b", flow="returns", intent="x")], settings)
    assert told.fields["flow"] == {"returns": Share(1, 1.0)}
    assert "intent" not in told.fields


def test_people_spoken_of_are_counted_once_a_conversation() -> None:
    settings = DataSettings.model_validate({"balance": {"group_terms": ["wheelchair", "night shift", "c++"]}})
    rows = [
        row("My grandmother, she is old.", "I see, sir."),
        row("The black shoes for Christian", "Of course."),
        row("He works the Night Shift in a wheelchair", "I see."),
    ]
    told = composition(rows, settings)
    counts = {group: share.count for group, share in told.groups.items()}
    assert counts == {"women": 1, "men": 2, "older people": 1, "younger people": 0, "religion": 0, "ethnicity": 0}
    assert told.own_terms == {"wheelchair": Share(1, 0.3333), "night shift": Share(1, 0.3333), "c++": Share(0, 0.0)}


def test_a_term_is_a_whole_word() -> None:
    terms = GroupTerms(["cat", "c++"])
    assert terms.mentioned("The shepherd's category; heroes") == (set(), set())
    assert terms.mentioned("He said: CAT! And c++.") == ({"men"}, {"cat", "c++"})


@pytest.mark.parametrize(
    ("words", "bucket"),
    [(0, "1-50 words"), (50, "1-50 words"), (51, "51-150 words"), (400, "151-400 words"), (401, "over 400 words")],
)
def test_lengths_fall_into_ranges(words: int, bucket: str) -> None:
    assert length_bucket("word " * words) == bucket


@given(st.lists(st.sampled_from(["a", "b", "", "c"]), max_size=30))
def test_counts_of_a_field_add_up_to_all(intents: list[str]) -> None:
    told = composition([row("x", "y", intent=intent) for intent in intents], DataSettings())
    for values in told.fields.values():
        assert sum(share.count for share in values.values()) == len(intents)


def test_unevenness_is_told_in_numbers() -> None:
    rows = [row("a", "b", intent="refund", outcome="unresolved")] * 69 + [row("a", "b", intent="price")] * 28
    rows += [row("she", "b", intent="gift", outcome="escalated")] * 3
    told = warnings(composition(rows, DataSettings()))
    assert told == [
        '69% of conversations have the intent "refund".',
        'The largest intent, "refund" (69), is 23 times the smallest, "gift" (3).',
        "72% of conversations end unresolved or escalated: a model learns that, too.",
    ]


def test_one_sided_mentions_are_told() -> None:
    rows = [row("he is here", "b")] * 30 + [row("she is here", "b")] * 10 + [row("it", "b")] * 60
    assert warnings(composition(rows, DataSettings())) == ["30.0% of conversations mention men, 10.0% mention women."]


def test_an_even_set_raises_no_warning() -> None:
    rows = [row("a", "b", intent=intent, outcome="resolved") for intent in ("x", "y", "z")] * 20
    assert warnings(composition(rows, DataSettings())) == []
    assert warnings(composition([], DataSettings())) == []
