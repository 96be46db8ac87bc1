"""A whole run against a server, its interruption, and its files."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from tests.bench.mock_server import Timing, mock_server
from vivace.bench.capacity import Capacity, Goal
from vivace.bench.server import Asked, ServerFindings, bench_server, find_server_rate
from vivace.bench.server.report import render, write
from vivace.bench.server.run import BLOCK_REQUESTS
from vivace.config.settings import BenchSettings
from vivace.domain import SilentProgress
from vivace.errors import ConfigError, EngineError

FAST = Timing(ttft_s=0.1, gap_s=0.02)


def run(asked: Asked, settings: BenchSettings, scratch: Path, timing: Timing = FAST) -> tuple[ServerFindings, int]:
    async def story() -> tuple[ServerFindings, int]:
        async with mock_server(timing) as server:
            there = msgspec.structs.replace(asked, url=server.url)
            found = await bench_server(there, settings, scratch, SilentProgress())
            return found, len(server.seen)

    return asyncio.run(story())


def test_a_closed_loop_measures_what_the_server_does(tmp_path: Path) -> None:
    asked = Asked("", input_tokens=60, output_tokens=11, requests=12)
    found, seen = run(asked, BenchSettings(concurrency=4), tmp_path)
    speed = found.row.speed
    assert (speed.completed, speed.failed, found.goodput, seen) == (12, 0, 1.0, 15)
    assert 99 <= speed.ttft.p50_ms.value < 250
    assert 15 <= speed.tpot.p50_ms.value < 35
    # 4 at once, each 0.3 s or a little more
    assert 4 / 0.6 < speed.requests_per_s <= 4 / 0.299
    assert found.tokens_by == {"server": 12}
    assert "wanted; the server counted 60" in found.notes[0]
    assert not list(tmp_path.iterdir())


def test_failures_are_counted_by_their_sentence_and_are_no_goodput(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "hi"}\n')
    timing = Timing(ttft_s=0.01, gap_s=0.001, act=lambda number: "break" if number % 3 == 1 else "")
    found, _seen = run(Asked("", prompts=str(path), output_tokens=4, requests=9), BenchSettings(), tmp_path, timing)
    assert found.row.speed.failed == 3
    assert found.goodput == pytest.approx(6 / 9)
    assert found.goodput_interval.low < 6 / 9 < found.goodput_interval.high
    ((error, count),) = found.errors.items()
    assert "broke off" in error
    assert count == 3
    assert error in render(found)


def test_a_server_that_answers_nothing_after_the_first_request_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "hi"}\n')
    timing = Timing(ttft_s=0.01, gap_s=0.001, act=lambda number: "500" if number else "")
    with pytest.raises(EngineError, match="answered none of 3 requests"):
        run(Asked("", prompts=str(path), requests=3), BenchSettings(), tmp_path, timing)


def test_a_trace_is_replayed_with_its_times_lengths_and_beginnings(tmp_path: Path) -> None:
    names = ("t", "input_tokens", "output_tokens", "prefix_block_ids")
    rows = [dict(zip(names, (n * 1.0, 600 + n, 3 + n, [1, 2 + n]), strict=True)) for n in range(6)]
    rows.insert(2, {"t": 1.5, "input_tokens": 9000, "output_tokens": 1, "prefix_block_ids": []})
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))

    async def story() -> tuple[ServerFindings, list[str]]:
        async with mock_server(Timing(ttft_s=0.01, gap_s=0.001)) as server:
            settings = BenchSettings(arrivals="trace", trace=str(path), speed_up=10)
            asked = Asked(server.url, requests=5, context_tokens=4000)
            found = await bench_server(asked, settings, tmp_path, SilentProgress())
            return found, [body["messages"][0]["content"] for body in server.seen[-5:]]

    found, prompts = asyncio.run(story())
    assert [sample.intended_s for sample in found.samples] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [sample.prompt_tokens for sample in found.samples] == [600, 601, 602, 603, 604]
    assert [sample.completion_tokens for sample in found.samples] == [3, 4, 5, 6, 7]
    assert len({prompt[:1500] for prompt in prompts}) == 1
    assert len({prompt[:2800] for prompt in prompts}) == 5
    assert "1 requests of the trace were passed over" in found.notes[0]
    assert found.row.offered_per_s == pytest.approx(12.5)


def test_a_run_that_was_interrupted_measures_only_what_is_left(tmp_path: Path) -> None:
    count = 2 * BLOCK_REQUESTS
    asked = Asked("", input_tokens=20, output_tokens=1, requests=count)
    settings = BenchSettings(concurrency=32)

    class Impatient(SilentProgress):
        def say(self, text: str) -> None:
            self.task = asyncio.current_task()

    async def story(cut: bool) -> tuple[ServerFindings | None, int]:
        async with mock_server(Timing(ttft_s=0.0, gap_s=0.0), port=18473) as server:
            there = msgspec.structs.replace(asked, url=server.url)
            work = asyncio.create_task(bench_server(there, settings, tmp_path, SilentProgress()))
            while cut and not list(tmp_path.glob("blocks-*")):
                await asyncio.sleep(0.01)
            if cut:
                work.cancel()
            (found,) = await asyncio.gather(work, return_exceptions=True)
            assert isinstance(found, asyncio.CancelledError if cut else ServerFindings), found
            return None if isinstance(found, BaseException) else found, len(server.seen)

    _nothing, before = asyncio.run(story(cut=True))
    assert before < count
    found, after = asyncio.run(story(cut=False))
    assert found is not None
    assert found.resumed
    assert found.row.speed.completed == count
    assert after <= BLOCK_REQUESTS + 5
    assert "two or more sessions" in render(found)


@pytest.mark.slow
def test_the_rate_found_is_what_the_slots_allow(tmp_path: Path) -> None:
    async def story() -> tuple[str, Capacity]:
        async with mock_server(Timing(ttft_s=0.1, gap_s=0.02, slots=4)) as server:  # 4 / 0.28 s = 14.3 a second
            asked = Asked(server.url, input_tokens=30, output_tokens=10)
            goal = Goal("conversational", 0.95, 5.0)
            return await find_server_rate(asked, BenchSettings(arrivals="constant"), goal, tmp_path, SilentProgress())

    model, found = asyncio.run(story())
    assert model == "mock"
    assert found.held is not None
    assert found.missed is not None
    # Short probes end before a queue just above the true rate has grown out of the service level.
    assert 14.3 / 1.5 < found.held < 14.3 * 1.5
    assert found.missed / found.held <= 1.11


def test_what_vllms_readers_look_for_is_there(tmp_path: Path) -> None:
    settings = BenchSettings(rate=50.0, arrivals="gamma", variation=2.0)
    found, _seen = run(Asked("", input_tokens=30, output_tokens=4, requests=10), settings, tmp_path)
    write(found, settings, tmp_path / "out")
    result = json.loads((tmp_path / "out" / "vllm.json").read_bytes())
    assert (result["num_prompts"], result["completed"], result["failed"]) == (10, 10, 0)
    assert result["total_output_tokens"] == 40
    assert result["output_throughput"] == pytest.approx(40 / result["duration"])
    assert result["total_token_throughput"] == pytest.approx((40 + result["total_input_tokens"]) / result["duration"])
    assert result["burstiness"] == pytest.approx(0.25)
    assert len(result["ttfts"]) == len(result["itls"]) == len(result["errors"]) == len(result["input_lens"]) == 10
    assert all(len(gaps) == 3 for gaps in result["itls"])
    for name in ("ttft", "tpot", "itl", "e2el"):
        assert result[f"p50_{name}_ms"] == pytest.approx(result[f"median_{name}_ms"])
        assert result[f"p50_{name}_ms"] <= result[f"p95_{name}_ms"] <= result[f"p99_{name}_ms"]
        assert {f"mean_{name}_ms", f"std_{name}_ms"} <= result.keys()
    assert {"date", "backend", "model_id", "request_rate", "request_goodput", "max_concurrency"} <= result.keys()
    assert b"generated_texts" not in (tmp_path / "out" / "result.json").read_bytes()


def test_nothing_to_ask_and_too_much_to_ask_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to ask"):
        run(Asked(""), BenchSettings(), tmp_path)
    with pytest.raises(ConfigError, match="Name one of"):
        run(Asked("", prompts="x", input_tokens=3), BenchSettings(), tmp_path)
