"""Make the classes of the training split more even: leave out, repeat, or weigh."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vivace.config.data import BalanceSettings


class Rebalancing(Struct, frozen=True):
    """For each row how often it is in the split (0: left out) and how much its loss counts; `note` says what changed.

    Rows of other splits, and rows without a class, have copies 1 and weight 1.
    """

    copies: NDArray[np.int64]
    weights: NDArray[np.float64]
    note: str = ""


def rebalance(keys: Sequence[str], splits: Sequence[str], settings: BalanceSettings, seed: int) -> Rebalancing:
    """Return how to make the largest class of `train` count at most `max_ratio` times as much as the smallest.

    `keys` are the classes, "" for none. Weights keep their sum over the rows of all classes.
    """
    copies, weights = np.ones(len(keys), np.int64), np.ones(len(keys), np.float64)
    classes: dict[str, list[int]] = {}
    for place, (key, split) in enumerate(zip(keys, splits, strict=True)):
        if split == "train" and key:
            classes.setdefault(key, []).append(place)
    sizes = [len(places) for places in classes.values()]
    if len(sizes) < 2 or max(sizes) <= settings.max_ratio * min(sizes):
        return Rebalancing(copies, weights)
    random = np.random.default_rng(seed)
    for _key, places in sorted(classes.items()):
        if settings.method == "downsample":
            _leave_out(copies, places, int(settings.max_ratio * min(sizes)), random)
        elif settings.method == "upsample":
            _repeat(copies, places, -(-max(sizes) // settings.max_ratio), random)
        else:
            weights[places] = max(len(places), max(sizes) / settings.max_ratio) / len(places)
    weighed = [place for places in classes.values() for place in places]
    weights[weighed] *= len(weighed) / weights[weighed].sum()
    return Rebalancing(copies, weights, _note(classes, copies, weights, settings))


def _leave_out(copies: NDArray[np.int64], places: list[int], size: int, random: np.random.Generator) -> None:
    if len(places) > size:
        copies[random.permutation(places)[size:]] = 0


def _repeat(copies: NDArray[np.int64], places: list[int], size: float, random: np.random.Generator) -> None:
    whole, rest = divmod(max(int(size), len(places)), len(places))
    copies[places] = whole
    copies[random.permutation(places)[:rest]] += 1


def _note(
    classes: dict[str, list[int]],
    copies: NDArray[np.int64],
    weights: NDArray[np.float64],
    settings: BalanceSettings,
) -> str:
    before = sum(map(len, classes.values()))
    after = sum(int(copies[places].sum()) for places in classes.values())
    by = f"{len(classes):,} classes of {settings.by or 'the key'}"
    if settings.method == "downsample":
        return f"{before - after:,} of {before:,} training conversations are left out to even {by}."
    if settings.method == "upsample":
        return f"{after - before:,} copies are added to {before:,} training conversations to even {by}."
    places = [place for members in classes.values() for place in members]
    low, high = weights[places].min(), weights[places].max()
    return f"The loss of {before:,} training conversations is weighed by {low:.2f} to {high:.2f} to even {by}."
