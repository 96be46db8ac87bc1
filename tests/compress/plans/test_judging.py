"""What is said of a plan that was measured, from planted figures."""

import pytest

from vivace.bench.pace import Pace, Ratio
from vivace.compress.plans.forecast import Draft, Forecast
from vivace.compress.plans.goals import Goals
from vivace.domain import Interval
from vivace.evaluate.retention import Kept, Retention
from vivace.evaluate.slices import SliceChange
from vivace.loop.compress.measure import Measured, Row
from vivace.loop.compress.search import Try, _judged, _more_healing, _otherwise, _out_of_reach

DRAFT = Draft(0.5, 1.0, 1.0, "openvino-int8")
FORESEEN = Forecast(DRAFT, 70_000_000, 80_000_000, 2.0, 0.5)


def judged(
    *,
    f1: float = 0.50,
    change: tuple[float, float] = (-0.002, 0.002),
    speed: float = 2.0,
    size: int = 80_000_000,
    goals: Goals | None = None,
    broken: bool = False,
    reference: float = 0.50,
) -> tuple[str, tuple[str, ...]]:
    """Judge a plan beside a model whose token F1 and ROUGE-L are `reference`."""

    def kept(metric: str) -> Kept:
        return Kept(metric, f1, reference, f1 - reference, Interval(*change), 0.5, 80)

    part = SliceChange("intent", "refund", 20, -0.4, Interval(-0.5, -0.3), 0.001, "breaks" if broken else "holds")
    domain = Retention("half", "tuned", (kept("token_f1"), kept("rouge_l")), (part,))
    ratio = Ratio(speed, speed, speed)
    row = Row(
        "half",
        "try-1",
        "heal",
        "openvino-int8",
        size,
        70_000_000,
        domain,
        domain,
        Pace("half", 100.0, 5.0, 200.0, 1, ratio, ratio),
    )
    tried = _judged(FORESEEN, Measured((row,), "tuned", "validation", 80), "half", goals or Goals(speedup=2.0))
    return tried.outcome, tried.reasons


def test_a_plan_that_keeps_everything_asked_for_meets_the_goals() -> None:
    assert judged()[0] == "met"
    assert judged(f1=0.52, change=(0.01, 0.03))[0] == "met"


def test_noise_beyond_the_limit_leaves_it_unproven() -> None:
    assert judged(change=(-0.03, 0.03))[0] == "unproven"
    outcome, reasons = judged(f1=0.0, reference=0.0)
    assert outcome == "unproven"
    assert any("nothing to lose" in reason for reason in reasons)


def test_lost_quality_breaks_however_fast_it_is() -> None:
    assert judged(f1=0.40, change=(-0.12, -0.08), speed=5.0)[0] == "breaks"
    assert judged(f1=0.40, change=(-0.12, -0.08), goals=Goals(speedup=2.0, quality=0.7))[0] == "met"


def test_a_broken_slice_breaks_a_plan_whose_mean_holds() -> None:
    outcome, reasons = judged(broken=True)
    assert outcome == "breaks"
    assert "intent refund breaks" in reasons


@pytest.mark.parametrize(
    ("goals", "outcome"),
    [
        (Goals(speedup=2.5), "slow"),
        (Goals(), "met"),
        (Goals(max_size_bytes=79_000_000), "large"),
        (Goals(max_parameters=69_000_000), "large"),
        (Goals(max_size_bytes=81_000_000, max_parameters=71_000_000, speedup=2.0), "met"),
    ],
)
def test_speed_and_size_are_held_to_the_goals(goals: Goals, outcome: str) -> None:
    assert judged(goals=goals)[0] == outcome


def test_after_a_break_other_levers_are_tried() -> None:
    made = [Try(DRAFT, FORESEEN, None, "breaks", ())]  # type: ignore[arg-type]
    drafts = [
        Forecast(Draft(layers, channels, 1.0, "openvino-int8"), 1, 1, 2.0, 1.0)
        for layers, channels in ((0.4, 1.0), (0.5, 1.0), (0.67, 0.5), (0.4, 0.5))
    ]
    assert [(each.draft.layers, each.draft.channels) for each in _otherwise(drafts, made)] == [(0.67, 0.5)]


def test_a_break_by_pruning_is_answered_with_longer_healing() -> None:
    trimmed = Draft(1.0, 1.0, 0.25, "openvino-int8")
    made = [Try(draft, FORESEEN, None, "breaks", ()) for draft in (trimmed, DRAFT)]  # type: ignore[arg-type]
    assert "raise heal_tokens in [compress.prune] (20,000 now)" in _more_healing(made, 20_000)
    assert _more_healing(made[:1], 20_000) == ""  # trimming needs no healing


def test_what_is_out_of_reach_is_told_with_what_is_within() -> None:
    told = _out_of_reach([FORESEEN], Goals(speedup=9))
    assert "9x the speed" in told
    assert "80 MB" in told
    assert "2.0x" in told
