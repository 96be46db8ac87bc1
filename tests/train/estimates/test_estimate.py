"""Before training: time, memory, cost. While it trains: pace and time left. Afterwards: what it came to."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.train.material import Watcher, run, write_dataset
from tests.train.test_notes import make_run
from vivace.config.train import TrainSettings
from vivace.models import identify
from vivace.train import notes
from vivace.train.batches.plan import make_plan
from vivace.train.batches.rows import Row
from vivace.train.estimates import estimate as estimates
from vivace.train.estimates.estimate import Estimate, duration, rates_of

KNOWN = Estimate(
    tokens=4000,
    steps=4,
    looks=3,
    seconds=7200.0,
    rate_from="timed on this machine",
    memory_bytes=2 * 10**9,
    memory_free_bytes=8 * 10**9,
    flops=4000,
    limit_flops_per_s=100.0,
    price_per_hour=1.5,
    step_flops=(1000, 2000, 3000, 4000),
)


def test_one_line_tells_tokens_steps_time_memory_and_cost() -> None:
    assert KNOWN.sentence == (
        "Training: 4,000 tokens in 4 steps, about 2.0 h (timed on this machine), 2.0 GB of memory of 8.0 GB free, "
        "cost 3.00."
    )
    assert replace(KNOWN, price_per_hour=None).cost is None
    assert "cost" not in replace(KNOWN, price_per_hour=None).sentence
    tight = replace(KNOWN, memory_free_bytes=10**9)
    assert not tight.fits
    assert tight.sentence.endswith("cost 3.00. That is more than is free: steps are computed in parts if that helps.")
    assert replace(KNOWN, seconds=None, memory_bytes=None).sentence == "Training: 4,000 tokens in 4 steps."


def test_the_pace_is_tokens_a_second_the_share_of_the_limit_and_the_time_left() -> None:
    # Two of four equal steps in 40 s: 40 s are left, and one of three validations of 5 s each.
    told = KNOWN.remark(step=2, tokens=2000, train_s=40.0, looked=2, validate_s=10.0)
    assert told == "50 tokens/s, 50% of this machine's limit, 45 s left"
    assert KNOWN.remark(step=0, tokens=0, train_s=0.0, looked=1, validate_s=5.0) == ""
    unknown = Estimate(tokens=4000, steps=4)
    assert unknown.remark(step=1, tokens=1000, train_s=10.0, looked=0, validate_s=0.0) == "100 tokens/s, 30 s left"


def test_the_outcome_holds_operations_utilization_cost_and_what_was_estimated() -> None:
    told = KNOWN.outcome({"steps": 3, "seconds": {"train": 60.0, "load": 30.0, "validate": 30.0}})
    assert told["flops"] == 3000
    assert told["flops_utilization"] == 0.5
    assert told["cost"] == pytest.approx(1.5 * 120 / 3600)
    assert told["estimate"]["seconds"] == 7200.0
    assert told["estimate"]["cost"] == 3.0


def test_times_are_told_in_the_unit_people_use() -> None:
    assert [duration(value) for value in (0.2, 89, 100, 3000, 9000)] == ["1 s", "89 s", "2 min", "50 min", "2.5 h"]


def test_only_runs_of_the_same_kind_tell_how_fast_the_next_one_will_be() -> None:
    def facts(**changes: Any) -> dict[str, Any]:
        told = {"device": "cpu", "dtype": "float32", "method": "lora", "flops": 600, "seconds": {"train": 3.0}}
        return told | changes

    found = [facts(), facts(method="full"), facts(dtype="bfloat16"), facts(flops=None), facts(flops=900), {}]
    assert rates_of(found, device="cpu", dtype="float32", method="lora") == [200.0, 300.0]
    shared = [*found, facts(flops=1200, workers=2)]
    assert rates_of(shared, device="cpu", dtype="float32", method="lora", workers=2) == [400.0]


def estimated(folder: Path, **changes: Any) -> Estimate:
    rows = [Row(tuple(range(5, 45)), (-100,) * 20 + tuple(range(25, 45))) for _ in range(16)]
    settings = TrainSettings(**changes)
    size, steps = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    plan = make_plan([40] * 16, batch_size=size, accumulation=steps, epochs=2, max_tokens=None, seed=0)
    rates = changes.pop("rates", ())
    return estimates.estimate(rows, rows[:4], plan, identify(folder), settings, rates=rates)


def test_an_estimate_counts_every_step_once(tiny_model: Path) -> None:
    one = estimated(tiny_model, per_device_train_batch_size=4)
    assert (one.tokens, one.steps, one.looks) == (1280, 8, 5)
    assert one.flops == one.step_flops[-1]
    assert [b - a for a, b in zip((0, *one.step_flops), one.step_flops, strict=False)] == [one.flops // 8] * 8
    two = estimated(tiny_model, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert (two.steps, two.flops) == (4, one.flops)
    assert one.seconds is not None
    assert one.seconds > 0
    assert one.rate_from == "timed on this machine"


def test_earlier_runs_tell_the_time_when_there_are_any(tiny_model: Path) -> None:
    rows = [Row(tuple(range(5, 45)), (-100,) * 20 + tuple(range(25, 45))) for _ in range(16)]
    plan = make_plan([40] * 16, batch_size=4, accumulation=1, epochs=1, max_tokens=None, seed=0)
    base, settings = identify(tiny_model), TrainSettings()
    first = estimates.estimate(rows, (), plan, base, settings, rates=[1e6])
    assert first.flops is not None
    assert first.seconds == pytest.approx(first.flops / 1e6)
    assert first.rate_from == "as fast as 1 earlier run"
    # The newest three, of which the middle one counts.
    later = estimates.estimate(rows, (), plan, base, settings, rates=[2e6, 9e6, 1e6, 1e3])
    assert later.seconds == pytest.approx(first.flops / 2e6)
    assert later.rate_from == "as fast as 3 earlier runs"


def test_the_memory_holds_the_weights_and_a_step(tiny_model: Path) -> None:
    from vivace.train import machine

    lora, full = estimated(tiny_model), estimated(tiny_model, method="full")
    assert lora.memory_bytes is not None
    assert full.memory_bytes is not None
    assert lora.memory_bytes > 4 * 106_816
    assert full.memory_bytes - lora.memory_bytes > 8 * 106_816
    assert lora.memory_free_bytes == pytest.approx(machine.memory_free("cpu"), rel=0.5)


def test_timing_leaves_the_random_state_as_it_was(tiny_model: Path) -> None:
    import torch

    from vivace.train.estimates.calibration import measure

    torch.manual_seed(7)
    before = torch.get_rng_state()
    measured = measure.__wrapped__(tiny_model, 2, 40, "cpu", "float32", 1)
    assert torch.equal(before, torch.get_rng_state())
    assert measured.limit_flops_per_s >= measured.layer_flops_per_s > 0
    assert measured.head_s_per_token > 0
    assert measured.update_s_per_weight > 0


class Listener(Watcher):
    """Progress that keeps the remarks beside the bar."""

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[str] = []

    def task(self, label: str, total: float | None = None) -> Any:
        bar = super().task(label, total)
        note = bar.note
        bar.note = lambda text: (self.remarks.append(text), note(text))
        return bar


def test_a_run_says_its_estimate_first_shows_its_pace_and_keeps_what_it_came_to(
    tiny_model: Path, tmp_path: Path
) -> None:
    listener = Listener()
    dataset = write_dataset(tmp_path / "data")
    facts = run(dataset, tiny_model, tmp_path / "run", listener, num_train_epochs=2, price_per_hour=3600.0)
    (told,) = [text for text in listener.said if text.startswith("Training: ")]
    assert f"{facts['tokens']:,} tokens in {facts['planned_steps']} steps" in told
    assert "GB of memory of" in told
    assert "cost" in told
    last = [text for text in listener.remarks if text.startswith("loss")][-1]
    assert "tokens/s" in last
    assert "of this machine's limit" in last
    assert last.endswith("s left")
    assert facts["estimate"]["tokens"] == facts["tokens"]
    assert facts["flops"] == facts["estimate"]["flops"]
    used = facts["flops"] / facts["seconds"]["train"] / facts["limit_flops_per_s"]
    assert facts["flops_utilization"] == pytest.approx(used, rel=0.01, abs=1e-4)
    assert facts["cost"] == pytest.approx(sum(facts["seconds"][n] for n in ("load", "train", "validate", "write")))


def test_the_price_decides_nothing_about_the_weights(tiny_model: Path, tmp_path: Path) -> None:
    assert "price_per_hour" not in TrainSettings(price_per_hour=2.0).model_dump()
    dataset = write_dataset(tmp_path / "data")
    for name, price in (("free", None), ("dear", 9.0)):
        run(dataset, tiny_model, tmp_path / name, num_train_epochs=1, price_per_hour=price)
    digests = [notes.weights_digest(tmp_path / name / "out") for name in ("free", "dear")]
    assert digests[0] == digests[1]


def test_a_search_keeps_the_price() -> None:
    from vivace.train.search.space import trial_settings

    assert trial_settings(TrainSettings(price_per_hour=2.0), {"learning_rate": 0.1}).price_per_hour == 2.0


def test_mlflow_is_told_cost_and_utilization_as_metrics(tmp_path: Path) -> None:
    made = make_run(tmp_path)
    facts = made.facts | {"cost": 0.25, "flops_utilization": 0.4, "estimate": {"seconds": 9.0}}
    figures = {name: value for name, value, _ms, _step in notes.note_of(replace(made, facts=facts)).metrics}
    assert figures["cost"] == 0.25
    assert figures["flops_utilization"] == 0.4
    assert figures["estimate.seconds"] == 9.0
