"""Which mix of levers is foreseen to do, by sums that can be done by hand."""

import math
from pathlib import Path

import pytest

from vivace.compress.plans.forecast import Anchor, Draft, Weights, correct, forecast, meets, read_weights
from vivace.compress.plans.goals import Goals
from vivace.compress.prune.costs import Sensitivity
from vivace.models import describe

WEIGHTS = Weights(layers=10, attention=200, channels=600, embedding=200, head=0, other=0)
ANCHORS = [Anchor("openvino-int8", 1000, 0.010), Anchor("onnx-int4", 600, 0.005, loss=0.3)]


def row(lever: str, amount: float, loss_change: float) -> Sensitivity:
    return Sensitivity(lever, amount, "", 0.0, loss_change, (0.0, 0.0), 0.5, 0, 0.0)


ROWS = [row("layers", 0.75, 0.2), row("layers", 0.5, 1.0), row("channels", 0.75, 0.1), row("channels", 0.5, 2.0)]


def found(draft: Draft, **changes: float) -> tuple[int, int, float, float]:
    (one,) = [each for each in forecast(WEIGHTS, ROWS, ANCHORS, **changes) if each.draft == draft]
    return one.parameters, one.size_bytes, round(one.speedup, 4), round(one.loss, 4)


def test_sizes_times_and_losses_follow_from_what_was_measured() -> None:
    assert found(Draft(1.0, 1.0, 1.0, "openvino-int8"), fixed_share=0) == (1000, 1000, 1.0, 0.0)
    assert found(Draft(0.5, 1.0, 1.0, "openvino-int8"), fixed_share=0) == (600, 600, round(1000 / 600, 4), 1.0)
    assert found(Draft(0.5, 0.5, 1.0, "openvino-int8"), fixed_share=0) == (450, 450, round(1000 / 450, 4), 3.0)
    assert found(Draft(1.0, 1.0, 0.25, "onnx-int4"), fixed_share=0) == (850, 510, round(2 / 0.85, 4), 0.3)
    assert found(Draft(0.9, 1.0, 1.0, "openvino-int8"), fixed_share=0)[3] == 0.08  # on the line to 0.75
    assert found(Draft(0.5, 1.0, 1.0, "openvino-int8"), fixed_share=0.5)[2] == pytest.approx(1 / 0.8)


def test_the_least_harmful_mix_that_meets_the_goals_comes_first() -> None:
    goals = Goals(speedup=1.5)
    mild = next(each for each in forecast(WEIGHTS, ROWS, ANCHORS, fixed_share=0) if meets(each, goals))
    # A tenth of the layers (0.08) and a quarter of the channels (0.1) cost less than four bits (0.3).
    assert mild.loss == pytest.approx(0.18)
    small = Goals(max_size_bytes=480, speedup=1.0)
    drafts = [each for each in forecast(WEIGHTS, ROWS, ANCHORS, fixed_share=0) if meets(each, small)]
    assert drafts[0].size_bytes <= 480
    assert all(drafts[0].loss <= each.loss + 1e-9 for each in drafts)
    assert not any(meets(each, Goals(speedup=50)) for each in forecast(WEIGHTS, ROWS, ANCHORS))


def test_the_whole_vocabulary_stays_where_nothing_asks_for_less() -> None:
    first = forecast(WEIGHTS, ROWS, ANCHORS)[0]
    assert first.draft == Draft(1.0, 1.0, 1.0, "openvino-int8")


@pytest.mark.parametrize("measured", [1.2, 1.5, 1.9])
def test_a_measured_speed_corrects_the_next_forecast(measured: float) -> None:
    draft = Draft(0.5, 1.0, 0.25, "openvino-int8")
    foreseen = found(draft, fixed_share=0.1)[2]
    share = correct(0.1, foreseen, measured)
    assert found(draft, fixed_share=share)[2] == pytest.approx(measured, abs=1e-3)
    assert correct(0.1, foreseen, 1000.0) == 0.0


def test_levers_that_were_not_measured_come_last() -> None:
    one = next(each for each in forecast(WEIGHTS, [], ANCHORS) if each.draft.layers < 1)
    assert one.loss > 50


def test_parameters_are_counted_by_what_they_belong_to(tiny_model: Path) -> None:
    weights = read_weights(tiny_model)
    assert weights.layers == 2
    assert weights.total == describe(tiny_model).parameters
    assert min(weights.attention, weights.channels, weights.embedding) > 0
    assert not math.isnan(weights.other)
