"""Which size to take for a task, a wanted quality and a budget, or why the data do not carry a choice."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal

import numpy as np
from msgspec import Struct

from vivace.domain import Interval
from vivace.evaluate.scales.drawing import drawn_values, interval, values_of
from vivace.evaluate.scales.saturation import Measure
from vivace.stats import Floats, detectable_difference, standard_error

State = Literal["meets", "unsure", "misses"]
Carried = Literal["yes", "no", "none fits"]


class Resources(Struct, frozen=True):
    """What one model takes; None: not known."""

    name: str
    disk_mb: float | None = None
    memory_mb: float | None = None
    latency_ms: float | None = None
    cost: float | None = None


class Wishes(Struct, frozen=True):
    """The task, the quality wanted of it (None: as good as the best) and the budget; None: no limit.

    `margin` is what a model may lose against the best and still be called as good.
    """

    task: str = ""
    quality: float | None = None
    margin: float = 0.01
    max_disk_mb: float | None = None
    max_memory_mb: float | None = None
    max_latency_ms: float | None = None
    max_cost: float | None = None


class Standing(Struct, frozen=True):
    """One model: what it misses of the budget, and whether its quality is enough."""

    name: str
    over: tuple[str, ...]
    state: State
    detail: str


class Advice(Struct, frozen=True):
    """The recommended model, empty where there is none; `carried` says whether the data carry it, `reasons` why."""

    choice: str
    carried: Carried
    reasons: tuple[str, ...]
    standings: tuple[Standing, ...]


def recommend(
    resources: Sequence[Resources],
    rows: Floats,
    measure: Measure,
    wishes: Wishes,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Advice:
    """Return the cheapest model within the budget whose quality is shown to be enough.

    `rows` has shape (models, examples, k), in the order of `resources`. Intervals are corrected (Bonferroni) for the
    number of models that are within the budget, so that the cheapest of many does not pass by chance.
    """
    over = [_over(each, wishes) for each in resources]
    inside = [place for place, misses in enumerate(over) if not misses]
    values = values_of(rows, measure.aggregate)
    strict = 1 - (1 - level) / max(1, len(inside))
    drawn = drawn_values(rows, measure.aggregate, resamples=resamples, seed=seed)
    best = int(np.argmax(np.where(np.isin(np.arange(len(values)), inside), measure.sign * values, -np.inf)))
    standings = tuple(
        _standing(each, over[place], place, best, values, drawn, measure, wishes, (rows.shape[1], strict))
        for place, each in enumerate(resources)
    )
    if not inside:
        nearest = min(zip(resources, over, strict=True), key=lambda pair: len(pair[1]))
        told = f"No model is within the budget; the nearest, {nearest[0].name}, misses {', '.join(nearest[1])}."
        return Advice("", "none fits", (told,), standings)
    return _choose([(resources[place], standings[place]) for place in inside], standings, wishes, resources[best].name)


def _choose(
    inside: Sequence[tuple[Resources, Standing]], standings: tuple[Standing, ...], wishes: Wishes, best: str
) -> Advice:
    wanted = f"a quality of {wishes.quality:g}" if wishes.quality is not None else "the quality of the best"
    task = f" for {wishes.task}" if wishes.task else ""
    enough = [each for each, standing in inside if standing.state == "meets"]
    unsure = [standing for _each, standing in inside if standing.state == "unsure"]
    if not enough:
        if not unsure:
            told = f"None of the {len(inside)} models within the budget reaches {wanted}{task}."
            return Advice("", "none fits", (told, *(standing.detail for _each, standing in inside)), standings)
        told = f"The data do not carry a recommendation: no model is shown to reach {wanted}{task}, and none to miss it"
        told += " by more than chance." if len(unsure) == len(inside) else f", of {', '.join(u.name for u in unsure)}."
        return Advice("", "no", (told, *(each.detail for each in unsure)), standings)
    by, told = _dearness(enough)
    choice = min(enough, key=by)
    if wishes.quality is None and len(inside) > 1 and choice.name == best and unsure:
        less = [standing for each, standing in inside if standing.state == "unsure" and by(each) < by(choice)]
        if less:
            names = ", ".join(each.name for each in less)
            note = f"Whether {names} would do as well for less, these questions cannot tell."
            return Advice(choice.name, "no", (note, *(each.detail for each in less)), standings)
    own = next(standing for standing in standings if standing.name == choice.name)
    reasons = [own.detail, f"Of the {len(enough)} that are enough it has the least {told}." if len(enough) > 1 else ""]
    reasons += [f"{each.name} is out: {', '.join(each.over)}." for each in standings if each.over]
    reasons += [each.detail for each in standings if not each.over and each.state != "meets"]
    return Advice(choice.name, "yes", tuple(reason for reason in reasons if reason), standings)


def _dearness(enough: Sequence[Resources]) -> tuple[Callable[[Resources], float], str]:
    """Return what the cheapest is judged by: cost where it is known of all, else latency, else size on disk."""
    for attribute, told in (("cost", "cost"), ("latency_ms", "time for an answer"), ("disk_mb", "size on disk")):
        if all(getattr(each, attribute) is not None for each in enough):
            return attrgetter(attribute), told
    return (lambda _each: 0.0), "place in the list"


def _over(each: Resources, wishes: Wishes) -> tuple[str, ...]:
    limits = (
        (each.disk_mb, wishes.max_disk_mb, "disk", "MB"),
        (each.memory_mb, wishes.max_memory_mb, "memory", "MB"),
        (each.latency_ms, wishes.max_latency_ms, "time for an answer", "ms"),
        (each.cost, wishes.max_cost, "cost of 1,000 answers", ""),
    )
    found = []
    for value, limit, what, unit in limits:
        if limit is None:
            continue
        if value is None:
            found.append(f"{what} is not known, at most {limit:g} {unit} allowed".replace("  ", " "))
        elif value > limit:
            found.append(f"{what} {value:,.6g} {unit}, at most {limit:,.6g} allowed".replace(" ,", ","))
    return tuple(found)


def _standing(
    each: Resources,
    over: tuple[str, ...],
    place: int,
    best: int,
    values: Floats,
    drawn: Floats,
    measure: Measure,
    wishes: Wishes,
    certainty: tuple[int, float],
) -> Standing:
    count, level = certainty
    if wishes.quality is not None:
        found, bar = interval(drawn[:, place], count, level), wishes.quality
        state = _state(found, bar, measure)
        figures = f"{measure.name} {values[place]:.3f} [{found.low:.3f}, {found.high:.3f}], {bar:g} wanted"
    else:
        if place == best:
            return Standing(each.name, over, "meets", f"{each.name} has the best {measure.name}: {values[place]:.3f}.")
        gaps = measure.sign * (drawn[:, place] - drawn[:, best])
        found, bar = interval(gaps, count, level), -wishes.margin
        state = "meets" if found.low >= bar else "misses" if found.high < bar else "unsure"
        gap = measure.sign * float(values[place] - values[best])
        figures = (
            f"{measure.name} {gap:+.3f} [{found.low:+.3f}, {found.high:+.3f}] against the best, "
            f"{wishes.margin:g} less allowed"
        )
    word = {"meets": "is good enough", "unsure": "may be good enough", "misses": "is not good enough"}[state]
    more = ""
    if state == "unsure":
        seen = detectable_difference(standard_error(found), level=level)
        more = f"; {count} questions show {seen:.3f} and more"
    return Standing(each.name, over, state, f"{each.name} {word}: {figures}{more}.")


def _state(found: Interval, bar: float, measure: Measure) -> State:
    low, high = (found.low, found.high) if measure.higher_is_better else (-found.high, -found.low)
    wanted = measure.sign * bar
    return "meets" if low >= wanted else "misses" if high < wanted else "unsure"
