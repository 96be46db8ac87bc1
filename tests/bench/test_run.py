"""The whole bench, with real engine processes."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from vivace.bench import bench, blocks
from vivace.bench.capacity import Goal
from vivace.bench.run import find_candidate_rate
from vivace.bench.summary import Ratio, Row
from vivace.config.settings import BenchSettings
from vivace.domain import Candidate, Example, Message, Model, SilentProgress, Speed, Workspace
from vivace.errors import EngineError
from vivace.store.files import append_line

SETTINGS = BenchSettings(requests=4, concurrency=2, blocks=2, open_requests=4, rate=40.0, max_tokens=12, fixed_tokens=8)


def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "out", tmp_path / "scratch", SilentProgress())


def examples(count: int = 10) -> list[Example]:
    question = "where is the parcel that was promised for last monday please"
    return [
        Example(f"e{n}", (Message("user", f"{question} {n}"), Message("assistant", "secret"))) for n in range(count)
    ]


def echo(name: str, model: Path, role: str = "candidate") -> Candidate:
    return Candidate(name, "echo", Model(name, model, "echo", "none"), role=role)


def test_candidates_are_measured_side_by_side(tiny_model: Path, tmp_path: Path) -> None:
    place = workspace(tmp_path)
    candidates = [echo("base", tiny_model, "baseline"), echo("new", tiny_model)]
    facts = asyncio.run(bench(candidates, examples(), SETTINGS, place, threads=1))
    speeds = msgspec.json.decode((place.out / "speed.json").read_bytes(), type=dict[str, Speed])
    assert list(speeds) == ["base", "new"]
    for speed in speeds.values():
        assert (speed.completed, speed.failed) == (8, 0)
        assert 0 < speed.ttft.p50_ms.value <= speed.e2e.p50_ms.value
        assert speed.peak_memory_bytes > 0
    rows = msgspec.json.decode((place.out / "rows.json").read_bytes(), type=list[Row])
    assert [(row.candidate, row.loop, row.workload) for row in rows] == [
        ("base", "closed", "natural"),
        ("base", "closed", "fixed"),
        ("new", "closed", "natural"),
        ("new", "closed", "fixed"),
        ("new", "open", "natural"),
    ]
    assert {row.mean_completion_tokens for row in rows if row.workload == "fixed"} == {8.0}
    ratios = msgspec.json.decode((place.out / "ratios.json").read_bytes(), type=list[Ratio])
    assert [(ratio.candidate, ratio.baseline, ratio.workload) for ratio in ratios] == [
        ("new", "base", "natural"),
        ("new", "base", "fixed"),
    ]
    assert all(ratio.low <= ratio.ratio <= ratio.high for ratio in ratios)
    assert facts["ratios"] == msgspec.to_builtins(ratios)
    assert facts["unmeasured"] == {}
    requests = (place.out / "requests.jsonl").read_bytes()
    assert len(requests.splitlines()) == 2 * 2 * 2 * 4 + 4
    assert b"parcel" not in requests
    assert "| new | base | fixed |" in (place.out / "report.md").read_text()


def test_an_interrupted_run_measures_only_what_is_left(tiny_model: Path, tmp_path: Path) -> None:
    first, second = workspace(tmp_path / "first"), workspace(tmp_path / "second")
    asyncio.run(bench([echo("a", tiny_model)], examples(), SETTINGS, first, threads=1))
    journal = (first.scratch / "blocks.jsonl").read_bytes().splitlines()
    assert len(journal) == 5
    for line in journal[:3]:
        append_line(second.scratch / "blocks.jsonl", line)
    facts = asyncio.run(bench([echo("a", tiny_model)], examples(), SETTINGS, second, threads=1))
    assert facts["resumed"]
    kept = blocks.finished_blocks(second.scratch / "blocks.jsonl")
    assert len(kept) == 5
    for line in journal[:3]:
        record = msgspec.json.decode(line, type=blocks.Finished)
        assert kept[record.key] == record
    assert "two or more sessions" in (second.out / "report.md").read_text()


def test_a_candidate_that_cannot_be_opened_is_named_and_the_others_are_measured(
    tiny_model: Path, tmp_path: Path
) -> None:
    place = workspace(tmp_path)
    broken = Candidate("broken", "openvino", Model("broken", tmp_path / "nowhere", "openvino", "int8"))
    facts = asyncio.run(bench([echo("good", tiny_model), broken], examples(), SETTINGS, place, threads=1))
    assert list(facts["speeds"]) == ["good"]
    assert list(facts["unmeasured"]) == ["broken"]
    assert "Not measured: broken" in (place.out / "report.md").read_text()
    with pytest.raises(EngineError, match="broken"):
        asyncio.run(bench([broken], examples(), SETTINGS, workspace(tmp_path / "other"), threads=1))


def test_the_open_loop_replays_a_trace_and_the_report_says_how_near_the_machine_is(
    tiny_model: Path, tmp_path: Path
) -> None:
    place = workspace(tmp_path)
    rows = [{"t": n * 0.5, "input_tokens": 40 + n, "output_tokens": 3 + n} for n in range(4)]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(map(json.dumps, rows)))
    settings = SETTINGS.model_copy(update={"arrivals": "trace", "trace": str(trace), "rate": None, "speed_up": 5.0})
    facts = asyncio.run(bench([echo("a", tiny_model)], examples(), settings, place, threads=1))
    found = [json.loads(line) for line in (place.out / "requests.jsonl").read_bytes().splitlines()]
    replayed = [row for row in found if row["loop"] == "open"]
    assert [row["intended_s"] for row in replayed] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert all(row["completion_tokens"] <= 3 + number for number, row in enumerate(replayed))
    assert all(20 < row["prompt_tokens"] < 60 for row in replayed)
    assert list(facts["roofline"]) == ["a"]
    told = (place.out / "report.md").read_text()
    assert "## Against the machine" in told
    assert "trace.jsonl" in told


@pytest.mark.slow
def test_the_highest_rate_of_a_candidate_is_searched_on_its_own_engine(tiny_model: Path, tmp_path: Path) -> None:
    goal = Goal("conversational", 0.9, 1.0)
    settings = SETTINGS.model_copy(update={"rate": 5000.0})
    work = find_candidate_rate(echo("a", tiny_model), examples(), settings, goal, workspace(tmp_path), threads=1)
    found = asyncio.run(asyncio.wait_for(work, 250))
    assert found.probes[0].rate == 5000.0
    assert (found.held or 0) > 1
