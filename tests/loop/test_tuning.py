"""Tuning keeps the default unless something is better beyond chance, goes on where it stopped, and is remembered."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vivace.domain import Candidate, Interval, Message, Model, SilentProgress
from vivace.errors import EngineError
from vivace.loop import tuning
from vivace.loop.machine import this_machine
from vivace.loop.tuned import Tuned, Tuning, tuned_for
from vivace.loop.tuning import BLOCKS, Setting, Trial, grid

ECHO_GRID = ({}, {"delay_ms_per_token": 12}, {"delay_ms_per_token": 2}, {"delay_ms_per_token": 30})


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuning._Plan:
    """An echo that takes 8 ms for a token by default; its options make it slower or faster."""
    monkeypatch.setattr(tuning, "engine_threads", lambda wanted=None: 1)
    monkeypatch.setitem(tuning._OPTIONS, "echo", ECHO_GRID)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "echo.json").write_text('{"delay_ms_per_token": 8}')
    item = Candidate("echo", "echo", Model("echo", tmp_path / "model", "echo", "none", artifact_id="a1"))
    prompts = [(Message("user", f"question number {number}"),) for number in range(5)]
    return tuning._Plan(
        {"echo": item}, prompts, "latency", 1, (2000.0, 100.0), tmp_path / "journal.jsonl", {}, time.monotonic() + 600
    )


def trials(key: str, times: list[float], tokens: int = 24, good: int = 1) -> list[Trial]:
    return [Trial(key, f"block {n}", each / 1e3, tokens, good, (each, each * 1.01)) for n, each in enumerate(times)]


@pytest.mark.slow
def test_the_faster_setting_is_found_against_the_default(plan: tuning._Plan) -> None:
    found = asyncio.run(tuning._tune(plan, None, this_machine(), SilentProgress()))
    (best,) = found.tuned
    assert best.options == {"delay_ms_per_token": 2}
    assert best.changed
    assert best.ratio is not None
    assert best.ratio > 2
    assert best.value < best.default_value
    assert best.interval.low <= best.value <= best.interval.high


@pytest.mark.slow
def test_an_interrupted_search_goes_on_and_measures_nothing_twice(
    plan: tuning._Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = tuning._measure, []

    async def counted(plan: Any, setting: Setting, responder: Any, place: str, times: int, tokens: int) -> Trial:
        if len(seen) == 5 and "stopped" not in seen:
            seen.append("stopped")
            raise KeyboardInterrupt
        seen.append(f"{setting.key} {place}")
        return await real(plan, setting, responder, place, times, tokens)

    monkeypatch.setattr(tuning, "_measure", counted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(tuning._tune(plan, None, this_machine(), SilentProgress()))
    lines = [msgspec.json.decode(line, type=Trial) for line in plan.journal.read_bytes().splitlines()]
    assert len(lines) == 5
    plan.done = {(each.key, each.place): each for each in lines}
    asyncio.run(tuning._tune(plan, None, this_machine(), SilentProgress()))
    seen.remove("stopped")
    assert len(seen) == len(set(seen))


def test_a_setting_that_cannot_be_opened_is_left_out_and_not_the_search(plan: tuning._Plan) -> None:
    item = plan.candidates["echo"]
    bad = Setting("echo", 1, options={"no_such_option": 1})
    bar = SilentProgress().task("").__enter__()
    left = asyncio.run(tuning._halve(plan, [Setting("echo", 1), bad], bar))
    assert left == [Setting("echo", 1)]
    assert "no option" in plan.done[(bad.key, "round 0")].error
    plan.candidates["echo"] = msgspec.structs.replace(item, model=msgspec.structs.replace(item.model, format="hf"))
    plan.done.clear()
    with pytest.raises(EngineError):
        asyncio.run(tuning._halve(plan, [bad], bar))


def test_a_difference_within_chance_changes_nothing(plan: tuning._Plan) -> None:
    default, other = Setting("echo", 1), Setting("echo", 2)
    noisy = [100.0, 130.0, 90.0, 120.0, 95.0, 125.0]
    told = {default.key: trials(default.key, noisy), other.key: trials(other.key, noisy[::-1])}
    judged = tuning._judge(plan, [default, other], told, 2)
    assert not judged.changed
    assert judged.threads == 1
    assert judged.ratio_interval is not None
    assert judged.ratio_interval.low < 1 < judged.ratio_interval.high
    told[other.key] = trials(other.key, [each / 2 for each in noisy])
    assert tuning._judge(plan, [default, other], told, 2).changed


def test_the_best_is_chosen_on_other_blocks_than_it_is_judged_on(plan: tuning._Plan) -> None:
    # Lucky in the first half, as the default in the second: luck is not believed.
    default, lucky = Setting("echo", 1), Setting("echo", 2)
    told = {
        default.key: trials(default.key, [100.0] * BLOCKS),
        lucky.key: trials(lucky.key, [10.0] * (BLOCKS // 2) + [100.0, 101.0, 99.0]),
    }
    judged = tuning._judge(plan, [default, lucky], told, 2)
    assert not judged.changed
    assert judged.ratio == pytest.approx(1.0, abs=0.02)


def test_nobody_in_time_is_no_ratio(plan: tuning._Plan) -> None:
    plan.aim = "goodput"
    a, b = Setting("echo", 1), Setting("echo", 2)
    told = {each.key: trials(each.key, [100.0] * BLOCKS, good=0) for each in (a, b)}
    judged = tuning._judge(plan, [a, b], told, 2)
    assert (judged.changed, judged.ratio, judged.ratio_interval) == (False, None, None)
    assert msgspec.json.decode(msgspec.json.encode(judged), type=Tuned) == judged


def test_the_grid_begins_with_the_default_and_latency_leaves_the_batch_alone() -> None:
    item = Candidate("openvino-int8", "openvino", Model("m", Path(), "openvino", "int8"))
    default = Setting("openvino-int8", 1)
    alone, many = grid(item, "latency", 1, default), grid(item, "throughput", 8, default)
    assert alone[0] == many[0] == default
    assert len({each.key for each in many}) == len(many)
    assert {each.max_batch for each in alone} == {32}
    assert {each.max_batch for each in many} == {4, 8, 32}


def test_what_was_found_is_remembered_for_this_machine_alone(tmp_path: Path) -> None:
    machine = this_machine()
    around = Interval(1.1, 1.3)
    best = Tuned("x", "openvino", "a1", "latency", 2, 8, {"n": 1}, 5.0, around, "ms", 1.2, around, True, 9, 6.0)
    same = msgspec.structs.replace(best, artifact_id="a2", changed=False)
    (tmp_path / "tuning").mkdir()
    path = tmp_path / "tuning" / "one.json"
    path.write_bytes(msgspec.json.encode(Tuning(machine, "latency", 1, (best, same))))
    assert tuned_for(tmp_path, "a1") == best
    assert tuned_for(tmp_path, "a1", "throughput") is None
    assert tuned_for(tmp_path, "a2") is None  # the default was not beaten
    assert tuned_for(tmp_path, "a3") is None
    other = msgspec.structs.replace(machine, cores=machine.cores + 1)
    assert other.fingerprint != machine.fingerprint
    path.write_bytes(msgspec.json.encode(Tuning(other, "latency", 1, (best,))))
    assert tuned_for(tmp_path, "a1") is None
    path.write_text("{")
    assert tuned_for(tmp_path, "a1") is None
