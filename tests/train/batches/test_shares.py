"""A step's rows are taken once each, whoever takes them and however many at a time."""

from hypothesis import given
from hypothesis import strategies as st

from vivace.train.batches.plan import make_plan
from vivace.train.batches.shares import longest_micro_batch, micro_batches, step_rows

LENGTHS = [9, 30, 12, 31, 7, 18, 25, 11, 40, 16, 3]


@given(
    st.lists(st.lists(st.integers(0, 10), min_size=1, max_size=8), min_size=1, max_size=4),
    st.integers(1, 8),
    st.integers(1, 5),
)
def test_all_workers_together_take_every_row_once(batches: list[list[int]], size: int, workers: int) -> None:
    taken = [micro_batches(batches, LENGTHS, size, rank, workers) for rank in range(workers)]
    assert sorted(i for one in taken for batch in one for i in batch) == sorted(i for b in batches for i in b)
    assert all(1 <= len(batch) <= size for one in taken for batch in one)


def test_alone_and_with_room_for_all_the_plans_batches_stay_as_they_are() -> None:
    assert micro_batches(((3, 1), (0,)), LENGTHS, 4) == [(3, 1), (0,)]
    assert micro_batches(((3, 1, 2), (0,)), LENGTHS, 2) == [(3, 1), (2,), (0,)]


def test_workers_get_about_the_same_number_of_tokens() -> None:
    loads = [
        sum(LENGTHS[i] for batch in micro_batches([range(11)], LENGTHS, 4, rank, 3) for i in batch) for rank in range(3)
    ]
    assert max(loads) - min(loads) <= 5


def test_the_largest_batch_is_found_before_the_start() -> None:
    plan = make_plan(LENGTHS, batch_size=4, accumulation=2, epochs=2, max_tokens=None, seed=0)
    assert longest_micro_batch(plan, LENGTHS, 4) == plan.longest_batch
    for size, workers in ((1, 1), (2, 1), (4, 3)):
        every = [
            batch
            for step in range(plan.steps)
            for rank in range(workers)
            for batch in micro_batches(step_rows(plan, step), LENGTHS, size, rank, workers)
        ]
        worst = max(len(batch) * max(LENGTHS[i] for i in batch) for batch in every)
        rows, tokens = longest_micro_batch(plan, LENGTHS, size, workers)
        assert rows * tokens == worst
    assert longest_micro_batch(plan, LENGTHS, 1) == (1, 40)
