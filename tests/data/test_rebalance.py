"""Rebalancing: the ratio holds, nothing is invented, and only training rows are touched."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.config.data import BalanceSettings
from vivace.data.balance.rebalance import rebalance

METHODS = ("downsample", "upsample", "weights")
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "a", "a", "a", "b", "c", ""]), st.sampled_from(["train", "train", "validation", "test"])
    ),
    max_size=80,
)


def settings(method: str, ratio: float = 3.0) -> BalanceSettings:
    return BalanceSettings.model_validate({"by": "intent", "method": method, "max_ratio": ratio})


@given(ROWS, st.sampled_from(METHODS), st.floats(1, 8), st.integers(0, 5))
def test_the_ratio_holds_and_nothing_else_changes(
    rows: list[tuple[str, str]], method: str, ratio: float, seed: int
) -> None:
    keys, splits = [key for key, _split in rows], [split for _key, split in rows]
    told = rebalance(keys, splits, settings(method, ratio), seed)
    before, after = Counter[str](), Counter[str]()
    for (key, split), copies, weight in zip(rows, told.copies.tolist(), told.weights.tolist(), strict=True):
        if split != "train" or not key:
            assert (copies, weight) == (1, 1.0)
        else:
            before[key] += 1
            after[key] += copies * weight
    assert set(after) == {key for key in before if after[key] > 0}
    if before:
        # Whole rows cannot meet a broken ratio exactly: a row more or less.
        slack = 0 if method == "weights" else 1
        assert max(after.values()) <= ratio * (min(after.values()) + slack) + 1e-6
        assert max(after.values()) <= max(before.values()) or method == "weights"
    if method == "downsample":
        assert all(after[key] <= before[key] for key in before)
    elif method == "upsample":
        assert all(after[key] >= before[key] for key in before)
    else:
        assert sum(after.values()) == pytest.approx(sum(before.values()))
        assert (told.copies == 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_and_the_work_is_told(method: str) -> None:
    keys, splits = ["refund"] * 90 + ["gift"] * 10, ["train"] * 100
    told, again = rebalance(keys, splits, settings(method), 7), rebalance(keys, splits, settings(method), 7)
    assert np.array_equal(told.copies, again.copies)
    assert np.array_equal(told.weights, again.weights)
    assert (
        told.note
        == {
            "downsample": "60 of 100 training conversations are left out to even 2 classes of intent.",
            "upsample": "20 copies are added to 100 training conversations to even 2 classes of intent.",
            "weights": "The loss of 100 training conversations is weighed by 0.83 to 2.50 to even 2 classes of intent.",
        }[method]
    )


def test_another_seed_leaves_out_others() -> None:
    keys, splits = ["refund"] * 90 + ["gift"] * 10, ["train"] * 100
    one, two = (rebalance(keys, splits, settings("downsample"), seed).copies for seed in (1, 2))
    assert one.sum() == two.sum() == 40
    assert not np.array_equal(one, two)


def test_an_even_split_is_left_alone() -> None:
    told = rebalance(["a"] * 30 + ["b"] * 10, ["train"] * 40, settings("downsample"), 0)
    assert (told.copies.tolist(), told.weights.tolist(), told.note) == ([1] * 40, [1.0] * 40, "")
