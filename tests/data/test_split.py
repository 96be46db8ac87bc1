"""The split: complete, disjoint, without leakage, stable, near the fractions."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.data.rooms import split_rows
from vivace.config.data import DataSettings
from vivace.data.rows import Row
from vivace.domain import Example, Message
from vivace.errors import ConfigError

NO_DUPLICATE_STEPS = ["turns"]


def row(number: int, *, group: str = "", intent: str = "", held_out: bool = False, text: str = "") -> Row:
    words = text or " ".join(f"w{number}x{place}" for place in range(6))
    metadata = {"intent": intent} if intent else {}
    messages = (Message("user", words), Message("assistant", f"answer {words}"))
    example = Example(f"row{number}", messages, content_hash=f"hash{number}", metadata=metadata)
    return Row(example, group, held_out)


def splits(rows: list[Row], **changes: object) -> dict[str, str]:
    kept, _trail = split_rows(rows, DataSettings.model_validate(changes))
    return {kept_row.example.id: kept_row.example.split for kept_row in kept}


NUMBERS = st.lists(st.integers(0, 400), min_size=1, max_size=60, unique=True)
FRACTIONS = st.tuples(st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, 0.1, 0.3]))


@given(NUMBERS, FRACTIONS, st.integers(0, 3), st.integers(1, 20))
def test_every_row_is_in_exactly_one_split_or_dropped_with_a_reason(
    numbers: list[int], fractions: tuple[float, float], seed: int, cap: int
) -> None:
    rows = [row(number, group=f"g{number % 7}" if number % 2 else "") for number in numbers]
    validation, test = fractions
    chosen = DataSettings(validation_fraction=validation, test_fraction=test, seed=seed, max_test_examples=cap)
    kept, trail = split_rows(rows, chosen)
    assert Counter(r.example.id for r in rows) == Counter(
        [r.example.id for r in kept] + [drop.row.id for drop in trail.dropped]
    )
    assert all(drop.reason for drop in trail.dropped)
    assert sum(r.example.split == "test" for r in kept) <= cap
    again, _ = split_rows(list(reversed(rows)), chosen)
    assert {r.example.id: r.example.split for r in again} == {r.example.id: r.example.split for r in kept}


@given(NUMBERS, st.integers(2, 12), st.integers(0, 3))
def test_a_group_never_crosses_splits(numbers: list[int], groups: int, seed: int) -> None:
    rows = [row(number, group=f"g{number % groups}") for number in numbers]
    found = splits(rows, validation_fraction=0.3, test_fraction=0.3, seed=seed)
    for group in range(groups):
        assert len({found[r.example.id] for r in rows if r.group == f"g{group}"}) <= 1


@settings(max_examples=30)
@given(st.lists(st.integers(0, 8), min_size=4, max_size=40), st.integers(0, 3))
def test_near_duplicates_never_cross_splits_even_when_their_step_is_off(kinds: list[int], seed: int) -> None:
    rows = [
        row(number, text=" ".join(f"k{kind}w{place}" for place in range(40)) + f" end{number % 3}")
        for number, kind in enumerate(kinds)
    ]
    found = splits(rows, steps=NO_DUPLICATE_STEPS, validation_fraction=0.3, test_fraction=0.3, seed=seed)
    for kind in set(kinds):
        assert len({found[f"row{number}"] for number, other in enumerate(kinds) if other == kind}) == 1


@settings(max_examples=30)
@given(NUMBERS, NUMBERS, st.integers(0, 3))
def test_adding_rows_moves_no_row(numbers: list[int], more: list[int], seed: int) -> None:
    few, many = (
        splits([row(number) for number in chosen], seed=seed) for chosen in (numbers, sorted({*numbers, *more}))
    )
    # Only where the few left a split without any row may one of them have been moved to fill it.
    assume(len(numbers) >= 3)
    moved = [name for name, split in few.items() if many.get(name, split) != split]
    assert len(moved) <= 2
    big = [row(number) for number in range(200)]
    before = splits(big, seed=seed)
    after = splits(big + [row(1000 + number) for number in more], seed=seed)
    assert {name: after[name] for name in before} == before


def test_sizes_are_near_the_fractions() -> None:
    found = Counter(splits([row(number) for number in range(4000)], max_test_examples=4000).values())
    # Five standard deviations of a binomial count.
    assert abs(found["test"] - 400) < 5 * (4000 * 0.1 * 0.9) ** 0.5
    assert abs(found["validation"] - 400) < 5 * (4000 * 0.1 * 0.9) ** 0.5


def test_seeds_give_different_splits() -> None:
    rows = [row(number) for number in range(100)]
    assert splits(rows, seed=0) != splits(rows, seed=1)


def test_every_intent_with_enough_conversations_is_in_every_split() -> None:
    rows = [row(number, intent=f"i{number % 20}") for number in range(300)]
    found = splits(rows)
    for intent in range(20):
        assert {found[f"row{number}"] for number in range(intent, 300, 20)} == {"train", "validation", "test"}


def test_even_three_conversations_fill_three_splits_and_one_is_to_learn_from() -> None:
    assert Counter(splits([row(number) for number in range(3)]).values()) == {"train": 1, "validation": 1, "test": 1}
    assert splits([row(1)]) == {"row1": "train"}


def test_held_out_rows_are_the_test_split_and_nothing_else_is() -> None:
    rows = [row(number) for number in range(50)] + [row(100 + number, held_out=True) for number in range(5)]
    found = splits(rows)
    assert {name for name, split in found.items() if split == "test"} == {f"row{100 + number}" for number in range(5)}


def test_what_shares_a_group_or_words_with_held_out_rows_leaves_as_contamination() -> None:
    rows = [
        row(1, group="ann"),
        row(2, group="joe"),
        row(3, text="the very same words as in the test file"),
        row(4, group="ann", held_out=True),
        row(5, text="The very same words, as in the test file!", held_out=True),
    ]
    kept, trail = split_rows(rows, DataSettings(steps=NO_DUPLICATE_STEPS, group_by="customer"))
    assert {r.example.id for r in kept} == {"row2", "row4", "row5"}
    assert {drop.row.id: drop.detail for drop in trail.dropped} == {
        "row1": "the same customer as held-out row4",
        "row3": "linked to held-out row5",
    }


def test_more_than_max_test_examples_are_set_aside_not_learned_from() -> None:
    rows = [row(number, held_out=number < 30) for number in range(60)]
    kept, trail = split_rows(rows, DataSettings(max_test_examples=10))
    assert Counter(r.example.split for r in kept)["test"] == 10
    assert trail.drops == {"set aside: more than max_test_examples": 20}


def test_rows_without_an_answer_at_the_end_are_dropped_even_with_every_step_off() -> None:
    broken = Row(Example("x", (Message("assistant", "Anybody?"), Message("user", "Hi"))))
    kept, trail = split_rows([broken, row(1)], DataSettings(steps=[]))
    assert [r.example.id for r in kept] == ["row1"]
    assert trail.drops == {"does not end with an answer to a customer": 1}


def test_fractions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="below 1"):
        split_rows([row(1)], DataSettings(validation_fraction=0.5, test_fraction=0.5))
