"""Batches are decided before the first step."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from vivace.train.batches.plan import make_plan

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=120)


@given(lengths, st.integers(1, 9), st.integers(1, 3), st.integers(0, 5))
def test_an_epoch_takes_each_row_once(rows: list[int], size: int, accumulation: int, seed: int) -> None:
    plan = make_plan(rows, batch_size=size, accumulation=accumulation, epochs=2, max_tokens=None, seed=seed)
    assert set(Counter(i for batch in plan.batches for i in batch).values()) == {2}
    assert plan.tokens == 2 * sum(rows)
    assert all(1 <= len(batch) <= size for batch in plan.batches)
    assert plan.steps == -(-len(plan.batches) // accumulation)
    assert plan.tokens_until(plan.steps) == plan.tokens


@given(lengths, st.integers(1, 9), st.integers(1, 5000))
def test_the_budget_counts_real_tokens_and_is_kept(rows: list[int], size: int, budget: int) -> None:
    plan = make_plan(rows, batch_size=size, accumulation=1, epochs=3, max_tokens=budget, seed=0)
    assert plan.tokens <= budget or len(plan.batches) == 1
    whole = make_plan(rows, batch_size=size, accumulation=1, epochs=3, max_tokens=None, seed=0)
    assert plan.batches == whole.batches[: len(plan.batches)]


@given(lengths, st.integers(1, 4))
def test_half_an_epoch_is_half_the_batches(rows: list[int], size: int) -> None:
    whole = make_plan(rows, batch_size=size, accumulation=1, epochs=1, max_tokens=None, seed=1)
    half = make_plan(rows, batch_size=size, accumulation=1, epochs=0.5, max_tokens=None, seed=1)
    assert half.batches == whole.batches[: max(1, round(len(whole.batches) / 2))]


def test_the_seed_decides_the_order() -> None:
    rows = list(range(1, 60))
    plans = [make_plan(rows, batch_size=4, accumulation=1, epochs=1, max_tokens=None, seed=s) for s in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]


def test_rows_of_like_length_share_a_batch() -> None:
    rows = [10, 200] * 200
    plan = make_plan(rows, batch_size=4, accumulation=1, epochs=1, max_tokens=None, seed=0)
    padded = sum(len(batch) * max(rows[i] for i in batch) for batch in plan.batches)
    assert padded < 1.1 * plan.tokens


@given(st.integers(1, 400), st.floats(0.01, 1))
def test_milestones_rise_and_end_with_the_last_step(batches: int, fraction: float) -> None:
    plan = make_plan([5] * batches, batch_size=1, accumulation=1, epochs=1, max_tokens=None, seed=0)
    marks = plan.milestones(fraction)
    assert marks[-1] == plan.steps
    assert list(marks) == sorted(set(marks))
    assert marks[0] >= 1
