"""What a model can after tuning and could before: paired differences, each with interval and test."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from msgspec import Struct, structs

from vivace.domain import Interval, Reason
from vivace.errors import DataError
from vivace.evaluate.general.choices import Chosen
from vivace.stats import (
    Floats,
    detectable_difference,
    holm,
    mean_of_rows,
    paired_bootstrap_rows,
    paired_permutation_rows,
    standard_error,
)

CHOICES = "general questions"
RIGHT = "right answers"
Outcome = Literal["forgot", "gained", "noise"]


class Results(Struct, frozen=True):
    """One metric of one task: rows (numerator, denominator) whose sums' ratio it is, one per example.

    `is_share` says that it is a share of examples or a fraction between 0 and 1, which a threshold can be set on.
    """

    task: str
    metric: str
    ids: tuple[str, ...]
    rows: tuple[tuple[float, float], ...]
    higher_is_better: bool = True
    is_share: bool = True

    @property
    def value(self) -> float:
        """The metric over all examples."""
        return float(mean_of_rows(self.table.sum(axis=0)[None])[0])

    @property
    def table(self) -> Floats:
        """The rows as numbers."""
        return np.asarray(self.rows, dtype=np.float64).reshape(len(self.rows), 2)


class Change(Struct, frozen=True):
    """A metric before and after. `difference` is positive where the model after is better.

    `p_adjusted` is corrected (Holm) over all metrics of the model; `detectable` is the smallest loss that so many
    examples would show 8 times in 10.
    """

    model: str
    before_model: str
    task: str
    metric: str
    before: float
    after: float
    difference: float
    interval: Interval
    p_value: float
    p_adjusted: float
    detectable: float
    count: int
    is_share: bool = True

    @property
    def outcome(self) -> Outcome:
        """`forgot` or `gained` where that is beyond noise after the correction."""
        if self.p_adjusted >= 1 - self.interval.level:
            return "noise"
        return "forgot" if self.difference < 0 else "gained"


def of_choices(found: Sequence[Chosen]) -> list[Results]:
    """Return the share of right answers, as a whole and by area, and the bits per byte of the right answers."""
    ids = tuple(each.id for each in found)
    right = tuple((float(each.is_right), 1.0) for each in found)
    made = [
        Results(CHOICES, RIGHT, ids, right),
        Results(
            CHOICES, "bits per byte", ids, tuple((each.bits[0], float(each.bytes[0])) for each in found), False, False
        ),
    ]
    for area in dict.fromkeys(each.area for each in found):
        own = [place for place, each in enumerate(found) if each.area == area]
        name = f"{CHOICES}: {area}"
        made.append(Results(name, RIGHT, tuple(ids[p] for p in own), tuple(right[p] for p in own)))
    return made


def changes(
    before: Sequence[Results],
    after: Sequence[Results],
    names: tuple[str, str],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Change]:
    """Compare a model's results with those before, on the same examples; `names` are of the models before and after.

    Raises `DataError` where the examples are not the same.
    """
    known = {(each.task, each.metric): each for each in before}
    made = []
    for each in after:
        other = known.get((each.task, each.metric))
        if other is None:
            continue
        if other.ids != each.ids:
            raise DataError(f"{names[0]} and {names[1]} were asked different examples of {each.task}.")
        made.append(_change(other, each, names, level, resamples, seed))
    adjusted = holm([each.p_value for each in made])
    return [structs.replace(each, p_adjusted=value) for each, value in zip(made, adjusted, strict=True)]


def _change(before: Results, after: Results, names: tuple[str, str], level: float, resamples: int, seed: int) -> Change:
    sign = 1 if after.higher_is_better else -1

    def better(sums: Floats) -> Floats:
        return sign * mean_of_rows(sums)

    drawn = {"resamples": resamples, "seed": seed}
    interval = paired_bootstrap_rows(after.table, before.table, better, level=level, **drawn)
    p_value = paired_permutation_rows(after.table, before.table, better, **drawn)
    return Change(
        names[1],
        names[0],
        after.task,
        after.metric,
        before.value,
        after.value,
        sign * (after.value - before.value),
        interval,
        p_value,
        p_value,
        detectable_difference(standard_error(interval), level=level),
        len(after.ids),
        after.is_share,
    )


def reasons(found: Sequence[Change], max_forgetting: float) -> list[Reason]:
    """Return one requirement per task for the gate: no loss of right answers beyond `max_forgetting` is shown.

    A loss counts where it is larger than allowed and beyond noise; what the examples cannot exclude is told.
    """
    made = []
    for each in found:
        if not each.is_share:
            continue
        lost = -each.difference
        met = each.outcome != "forgot" or lost <= max_forgetting
        detail = (
            f"{each.before:.3f}, then {each.after:.3f}: {each.difference:+.3f} [{each.interval.low:+.3f}, "
            f"{each.interval.high:+.3f}], p = {each.p_adjusted:.4f}"
        )
        if met and -each.interval.low > max_forgetting:
            detail += f"; a loss of {-each.interval.low:.3f} cannot be excluded by {each.count} examples"
        name = f"at most {max_forgetting:.1%} forgotten in {each.task}, {each.metric}"
        made.append(Reason(name, met, detail, 0.0 if met else lost / max(max_forgetting, 1e-9) - 1))
    return made


def tell(found: Sequence[Change]) -> list[str]:
    """Say what was forgotten and what was gained, and what the examples could not show."""
    lines = []
    for each in found:
        if ":" in each.task and each.outcome == "noise":
            continue  # an area by itself is named only where it breaks
        figures = (
            f"{each.before:.3f}, then {each.after:.3f} ({each.difference:+.3f} "
            f"[{each.interval.low:+.3f}, {each.interval.high:+.3f}], p = {each.p_adjusted:.3g})"
        )
        what = f"{each.task}, {each.metric}"
        if each.outcome == "forgot":
            lines.append(f"{each.model} forgot: {what} {figures}.")
        elif each.outcome == "gained":
            lines.append(f"{each.model} is better: {what} {figures}.")
        else:
            lines.append(
                f"{each.model}: no change is shown in {what}, {figures}; {each.count} examples show a loss of "
                f"{each.detectable:.3f} and more."
            )
    return lines
