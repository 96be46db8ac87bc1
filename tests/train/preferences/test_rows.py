"""Ratings and comparisons become answers to learn from, or are left out with a reason."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.train.preferences.material import BAD, GOOD, answer, compared, prompt, rated
from vivace.domain import Example, Message
from vivace.domain.message import FunctionCall, ToolCall
from vivace.models import ChatTokenizer
from vivace.train.batches.rows import IGNORED, SILENT, Row
from vivace.train.preferences import rows as reasons
from vivace.train.preferences.rows import Preferences, gather_preferences, mismatched, raters


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return ChatTokenizer.open(tiny_model)


def gather(tokenizer: ChatTokenizer, examples: Iterable[Example], **changes: Any) -> Preferences:
    chosen = {"system": "Be kind.", "max_length": 512, "min_raters": 1, **changes}
    return gather_preferences(tokenizer, examples, **chosen)


def said(tokenizer: ChatTokenizer, row: Row) -> str:
    return tokenizer.decode([label for label in row.labels if label != IGNORED])


def test_only_the_answer_is_learned_and_the_prompt_is_that_of_serving(tokenizer: ChatTokenizer) -> None:
    before = (Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "Where is my order?"))
    example = Example("1", (*before, Message("assistant", "Here.")), rejected=(Message("assistant", "No."),))
    found = gather(tokenizer, [example])
    served = tokenizer.encode_chat((Message("system", "Be kind."), *before), add_generation_prompt=True)
    for place, text in ((found.pairs[0].chosen, "Here."), (found.pairs[0].rejected, "No.")):
        row = found.answers[place]
        assert row.ids[: len(served)] == served
        assert set(row.labels[: len(served)]) == {IGNORED}
        assert said(tokenizer, row) == text
        assert row.labels[len(served) + len(tokenizer.encode(text))] in tokenizer.eos_ids


def test_pairs_are_ratings_of_both_sides_and_ratings_of_one_prompt_are_a_pair(tokenizer: ChatTokenizer) -> None:
    found = gather(tokenizer, [compared(1, "train")])
    assert [(said(tokenizer, found.answers[r.answer]).split(", ")[1], r.good) for r in found.ratings] == [
        ("please.", True),
        ("sorry.", False),
    ]
    found = gather(tokenizer, [rated(1, "train", BAD, 0.0), rated(1, "train", GOOD, 1.0), rated(2, "train", GOOD, 1.0)])
    assert [(pair.chosen, pair.rejected) for pair in found.pairs] == [(1, 0)]
    assert found.left_out_pairs == {reasons.ALONE: 1}
    assert len(found.ratings) == 3


def test_several_opinions_on_one_answer_are_averaged_and_ties_left_out(tokenizer: ChatTokenizer) -> None:
    rows = [rated(1, "train", GOOD, value) for value in (1.0, 1.0, 0.0)] + [rated(2, "train", GOOD, v) for v in (1, 0)]
    found = gather(tokenizer, rows)
    assert [(rating.answer, rating.good) for rating in found.ratings] == [(0, True)]
    assert found.left_out_ratings == {reasons.TIED: 2}
    both_ways = [compared(3, "train"), compared(3, "train", BAD, GOOD)]
    assert gather(tokenizer, both_ways).pairs == ()
    again = gather(tokenizer, [*both_ways, compared(3, "train", BAD, GOOD)])
    assert said(tokenizer, again.answers[again.pairs[0].chosen]).endswith("sorry.")


def test_few_raters_are_left_out(tokenizer: ChatTokenizer) -> None:
    rows = [
        compared(1, "train", rater="Ann"),
        compared(1, "train", rater="Bob"),
        compared(2, "train", raters=3),
        compared(3, "train"),
        compared(3, "train"),
        compared(4, "train", rater="Ann"),
        compared(4, "train", rater="Ann"),
    ]
    assert len(gather(tokenizer, rows).pairs) == 4
    found = gather(tokenizer, rows, min_raters=2)
    assert len(found.pairs) == 2
    assert found.left_out_pairs == {reasons.FEW_RATERS: 4}
    assert raters([compared(1, "train", raters=["Ann", "Bob"]), compared(1, "train", rater="Bob")]) == 2


def test_what_cannot_be_compared_is_left_out_with_its_reason(tokenizer: ChatTokenizer) -> None:
    good = compared(1, "train")
    rows = [
        compared(1, "train", GOOD, GOOD),
        msgspec.structs.replace(good, rejected=(answer(BAD, 1), prompt(1), answer(BAD, 1))),
        msgspec.structs.replace(good, messages=(answer(GOOD, 1),)),
        msgspec.structs.replace(good, rejected=(Message("assistant", " "),)),
        msgspec.structs.replace(good, rejected=()),
        good,
    ]
    found = gather(tokenizer, rows)
    assert len(found.pairs) == 1
    assert found.left_out == {reasons.IDENTICAL: 1, reasons.SEVERAL: 2, reasons.EMPTY: 1, reasons.UNKNOWN: 1}


def test_a_call_that_the_template_does_not_write_is_left_out(tokenizer: ChatTokenizer) -> None:
    call = Message("assistant", tool_calls=(ToolCall("1", FunctionCall("find", '{"what": "parcel"}')),))
    example = msgspec.structs.replace(rated(1, "train", GOOD, 1.0), messages=(prompt(1), call))
    found = gather(tokenizer, [example, rated(2, "train", BAD, 0.0)])
    assert [rating.good for rating in found.ratings] == [False]
    assert found.left_out_ratings == {SILENT: 1}


def test_both_answers_to_a_long_prompt_see_the_same_turns(tokenizer: ChatTokenizer) -> None:
    talk = tuple(turn for number in range(9) for turn in (prompt(number), answer(GOOD, number)))
    short, long = Message("assistant", "No."), Message("assistant", "Yes, you can change the address. " * 4)
    example = Example("1", (*talk, prompt(9), short), rejected=(long,))
    found = gather(tokenizer, [example], max_length=150)
    rows = [found.answers[found.pairs[0].chosen], found.answers[found.pairs[0].rejected]]
    starts = [next(i for i, label in enumerate(row.labels) if label != IGNORED) for row in rows]
    assert rows[0].ids[: starts[0]] == rows[1].ids[: starts[1]]
    assert max(len(row.ids) for row in rows) <= 150
    found = gather(tokenizer, [example, compared(3, "train")], max_length=60)
    assert len(found.pairs) == 1
    assert sum(found.left_out_pairs.values()) == 1


def test_a_mismatched_row_is_one_prompt_with_the_answer_to_another(tokenizer: ChatTokenizer) -> None:
    one, other = gather(tokenizer, [rated(1, "train", GOOD, 1.0), rated(2, "train", BAD, 0.0)]).answers
    mixed = mismatched(one, other, 512)
    whole = tokenizer.encode_chat(
        (Message("system", "Be kind."), prompt(1), answer(BAD, 2)), add_generation_prompt=False
    )
    assert mixed.ids == whole[: len(mixed.ids)]
    assert said(tokenizer, mixed) == said(tokenizer, other)
    assert len(mismatched(one, other, len(one.ids) - 3).ids) <= len(one.ids) - 3
