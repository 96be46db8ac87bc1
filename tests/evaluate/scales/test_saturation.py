"""Planted worlds are told for what they are, and intervals cover the truth as often as they say."""

import numpy as np
import pytest

from tests.evaluate.scales.worlds import SIZES, TRUE, knee_at_unit, world
from vivace.evaluate.scales.curve import heights, unit_of
from vivace.evaluate.scales.drawing import bounds, drawn_values, interval, trend_p_value, values_of
from vivace.evaluate.scales.saturation import Measure, curve_draws, knee_of, saturation
from vivace.evaluate.scales.telling import tell
from vivace.stats import bootstrap_rows, mean_of_rows

NAMES = [f"m{number}" for number in range(8)]
UNIT = unit_of(SIZES)
WORLDS = 1000


def judged(rows, sizes=SIZES, measure=None, **options):
    found = {"resamples": 400} | options
    return saturation("parameters", NAMES[: len(sizes)], sizes, rows, measure or Measure("token_f1"), **found)


def test_a_growing_world_gets_its_curve_and_its_knee() -> None:
    rows = world(np.random.default_rng(3), SIZES, TRUE, 400)
    found = judged(rows, measure=Measure("token_f1", least=knee_at_unit()))
    assert found.verdict == "grows"
    fitted = found.fitted
    assert fitted is not None
    assert fitted.knee.reach == "inside"
    assert fitted.knee.interval.low <= UNIT <= fitted.knee.interval.high
    assert fitted.limit.interval.low <= 0.6 <= fitted.limit.interval.high
    assert fitted.band[-1][0] == pytest.approx(2 * SIZES[-1])
    assert all(low <= height <= high for _size, height, low, high in fitted.band)
    assert fitted.prediction.error.value < fitted.prediction.by_mean
    assert fitted.scatter == 0.0


def test_the_order_in_which_models_are_named_does_not_matter() -> None:
    rows = world(np.random.default_rng(3), SIZES, TRUE, 200)
    turned = saturation("parameters", NAMES[:6][::-1], SIZES[::-1], rows[::-1], Measure("token_f1"), resamples=400)
    assert turned == judged(rows)


def test_a_loss_is_fitted_from_above() -> None:
    rows = world(np.random.default_rng(4), SIZES, np.array([-0.4, 0.12, 0.6]), 400)
    rows[:, :, 0] *= -1  # bits: they fall to 0.4
    found = judged(rows, measure=Measure("bits_per_byte", higher_is_better=False, best=0.0))
    assert found.verdict == "grows"
    assert found.fitted is not None
    assert found.slope is not None
    assert found.slope.value < 0
    assert found.fitted.limit.interval.low <= 0.4 <= found.fitted.limit.interval.high
    assert found.fitted.limit.value >= 0
    assert found.fitted.band[0][1] > found.fitted.band[-1][1]


def test_too_few_sizes_get_a_sentence_and_no_curve() -> None:
    for count in (2, 3):
        found = judged(world(np.random.default_rng(5), SIZES[:count], TRUE, 300), SIZES[:count])
        assert (found.verdict, found.fitted) == ("few", None)
        assert f"{count} sizes are too few for a curve, which needs 4" in tell(found)[0]
    same = np.full(4, 1e8)
    assert judged(world(np.random.default_rng(5), same, TRUE, 50), same).verdict == "few"


def test_more_is_worse_is_told_and_not_fitted() -> None:
    rows = world(np.random.default_rng(6), SIZES, TRUE, 300)[::-1]
    found = judged(rows)
    assert (found.verdict, found.fitted) == ("falls", None)
    assert "more of it is not better here" in tell(found)[0]


def test_a_family_that_does_not_lie_on_one_curve_is_told() -> None:
    rows = world(np.random.default_rng(7), SIZES, TRUE, 2000)
    rows[2, :, 0] -= 0.15
    found = judged(rows)
    assert found.fitted is not None
    assert found.fitted.scatter > 0.02
    assert any("something else than size differs" in line for line in tell(found))
    plain = judged(world(np.random.default_rng(7), SIZES, TRUE, 2000))
    assert plain.fitted is not None
    assert plain.fitted.scatter == 0.0


def test_what_sizes_miss_the_curve_by_widens_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = world(np.random.default_rng(7), SIZES, TRUE, 2000)
    rows[2, :, 0] -= 0.15
    values, drawn = values_of(rows, mean_of_rows), drawn_values(rows, mean_of_rows, resamples=400, seed=0)

    def spread() -> float:
        _whole, curves = curve_draws(SIZES, values, drawn, 1.0, 0)
        return float(heights(curves, np.array([UNIT]), UNIT).std())

    counted = spread()
    monkeypatch.setattr("vivace.evaluate.scales.saturation.MISFIT_LEVEL", 0.0)
    assert counted > 3 * spread()


def test_a_knee_beyond_what_was_measured_is_not_made_up() -> None:
    rows = world(np.random.default_rng(8), SIZES, np.array([0.9, 0.3, 0.3]), 2000)
    beyond = judged(rows, measure=Measure("token_f1", least=0.001))
    assert beyond.fitted is not None
    assert beyond.fitted.knee.reach == "beyond"
    assert beyond.fitted.knee.size == SIZES[-1]
    assert "doubling always brings" in tell(beyond)[1]
    below = judged(rows, measure=Measure("token_f1", least=0.5))
    assert below.fitted is not None
    assert below.fitted.knee.reach == "below"


def test_intervals_are_those_of_the_house() -> None:
    rows = world(np.random.default_rng(9), SIZES[:1], TRUE, 60)
    ours = interval(drawn_values(rows, mean_of_rows, resamples=20_000, seed=0)[:, 0], 60, 0.95)
    theirs = bootstrap_rows(rows[0], mean_of_rows, resamples=20_000, seed=1)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


@pytest.mark.slow
def test_in_flat_worlds_growth_is_claimed_no_more_often_than_the_level_says() -> None:
    called = 0
    for number in range(WORLDS):
        rows = world(np.random.default_rng(number), SIZES, None, 40)
        called += trend_p_value(rows, mean_of_rows, SIZES, resamples=99, seed=number) <= 0.05
    assert 0.03 <= called / WORLDS <= 0.07


def test_a_flat_world_is_called_flat_and_what_it_could_hide_is_told() -> None:
    found = judged(world(np.random.default_rng(0), SIZES, None, 100))
    assert (found.verdict, found.fitted) == ("flat", None)
    assert found.detectable > 0.02
    assert "no growth is shown" in tell(found)[0]
    assert "100 questions" in tell(found)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "count", "scatter", "least"),
    [(6, 150, 0.0, 0.93), (4, 150, 0.0, 0.93), (6, 400, 0.0, 0.925), (6, 150, 0.03, 0.85)],
)
def test_the_knees_interval_covers_the_truth_at_its_level(sizes: int, count: int, scatter: float, least: float) -> None:
    places = np.geomspace(SIZES[0], SIZES[-1], sizes)
    unit = unit_of(places)
    truth = heights(TRUE[None], np.array([unit]), unit)[0, 0]
    knees, curves = 0, 0
    for number in range(WORLDS):
        rows = world(np.random.default_rng(number), places, TRUE, count, scatter)
        drawn = drawn_values(rows, mean_of_rows, resamples=300, seed=number)
        whole, made = curve_draws(places, values_of(rows, mean_of_rows), drawn, 1.0, number)
        knee = knee_of(places, whole, made, knee_at_unit(), count, 0.95).interval
        knees += knee.low <= unit <= knee.high
        low, high = bounds(heights(made, np.array([unit]), unit), count, 0.95)
        curves += low[0] <= truth <= high[0]
    assert least <= knees / WORLDS <= 0.98, knees
    assert least <= curves / WORLDS <= 0.98, curves
