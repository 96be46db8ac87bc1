"""Numbers that never travel without their uncertainty."""

from msgspec import Struct


class Interval(Struct, frozen=True):
    """A two-sided interval at `level`."""

    low: float
    high: float
    level: float = 0.95


class Score(Struct, frozen=True):
    """A metric's value over `count` examples, with its interval; `unit` is "" for fractions."""

    metric: str
    value: float
    interval: Interval
    count: int
    unit: str = ""
    higher_is_better: bool = True


class Comparison(Struct, frozen=True):
    """A paired comparison of `candidate` against `baseline` on the same examples.

    `difference` is candidate minus baseline, oriented so that positive is better; `p_value` is two-sided,
    `p_adjusted` after correction for the family of comparisons it belongs to; `unit` is the metric's.
    """

    metric: str
    candidate: str
    baseline: str
    difference: float
    interval: Interval
    p_value: float
    p_adjusted: float
    count: int
    unit: str = ""

    @property
    def outcome(self) -> str:
        """`better`, `worse` or `noise` at the 5 % level after correction."""
        if self.p_adjusted >= 0.05:
            return "noise"
        return "better" if self.difference > 0 else "worse"
