"""The client against a server of known timing, and against one that misbehaves."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.bench.mock_server import MockServer, Timing, mock_server
from vivace.bench.load import Run, Sample, closed_loop, open_loop
from vivace.bench.server import Target, open_target
from vivace.bench.traffic.lengths import Meter, Prose
from vivace.domain import Message, Request, Sampling
from vivace.errors import ConfigError, EngineError

LATE_MS = 150


def asked(count: int, tokens: int = 6) -> list[Request]:
    sampling = Sampling(max_tokens=tokens)
    return [Request(str(number), (Message("user", f"hi {number}"),), sampling=sampling) for number in range(count)]


def with_server(
    timing: Timing, story: Callable[[MockServer, Target], Awaitable[Any]], model: str = "mock", key: str = ""
) -> Any:
    async def run() -> Any:
        async with mock_server(timing) as server, open_target(server.url, model, key) as target:
            return await story(server, target)

    return asyncio.run(run())


def one(timing: Timing, tokens: int = 6) -> Sample:
    async def story(server: MockServer, target: Target) -> Run:
        return await closed_loop(target, asked(1, tokens), 1, lambda: None)

    (sample,) = with_server(timing, story).samples
    assert isinstance(sample, Sample)
    return sample


def test_known_times_are_measured_as_they_are() -> None:
    sample = one(Timing(ttft_s=0.4, gap_s=0.1), tokens=11)
    assert sample.error is None
    assert sample.ttft_ms is not None
    assert sample.tpot_ms is not None
    assert 399 <= sample.ttft_ms < 400 + LATE_MS
    # Tokens come on a schedule: what the first is late, the gaps are short of.
    assert 100 - LATE_MS / 10 <= sample.tpot_ms < 100 + LATE_MS / 10
    assert 1399 <= sample.e2e_ms < 1400 + LATE_MS
    assert (sample.prompt_tokens, sample.completion_tokens) == (7, 11)
    assert len(sample.gaps_s) == 10


def test_a_stall_of_two_seconds_is_seen_from_the_intended_times_and_hidden_by_waiting_clients() -> None:
    """A client that sends when it can asks nobody during the stall: coordinated omission."""
    timing = Timing(ttft_s=0.02, gap_s=0.01, stalls=[(0.5, 2.5)])

    async def waiting(server: MockServer, target: Target) -> Run:
        return await closed_loop(target, asked(12, 2), 1, lambda: None)

    async def scheduled(server: MockServer, target: Target) -> Run:
        return await open_loop(target, asked(12, 2), [0.2 * number for number in range(12)], lambda: None)

    def slow(run: Run) -> int:
        assert all(sample.error is None for sample in run.samples)
        return sum(sample.e2e_ms > 500 for sample in run.samples)

    assert slow(with_server(timing, waiting)) <= 2
    assert slow(with_server(timing, scheduled)) >= 6


def test_a_client_that_sends_late_counts_from_when_it_should_have_sent() -> None:
    """Here the driver stands still for two seconds, as a load generator does that waits for its server."""

    async def story(server: MockServer, target: Target) -> Run:
        async def stand_still() -> None:
            await asyncio.sleep(0.1)
            time.sleep(2.0)

        still = asyncio.create_task(stand_still())
        run = await open_loop(target, asked(10, 2), [0.2 * number for number in range(10)], lambda: None)
        await still
        return run

    samples = with_server(Timing(ttft_s=0.02, gap_s=0.01), story).samples
    assert sum((sample.ttft_ms or 0.0) > 500 for sample in samples) >= 6
    assert sum((sample.first_token_s or 0.0) - sample.sent_s > 0.5 for sample in samples) <= 2


def test_a_server_without_usage_has_its_tokens_counted_from_the_stream() -> None:
    async def story(server: MockServer, target: Target) -> tuple[Run, dict[str, int]]:
        return await closed_loop(target, asked(1, 9), 1, lambda: None), dict(target.counted)

    run, counted = with_server(Timing(ttft_s=0.01, gap_s=0.01, usage=False), story)
    (sample,) = run.samples
    assert sample.error is None
    assert sample.completion_tokens == 9
    assert sample.prompt_tokens > 0
    assert counted == {"estimate": 1}


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("html", "answered with a web page instead of JSON"),
        ("break", "broke off its answer"),
        ("500", "is in trouble (HTTP 500"),
        ("429", "takes no more requests for now (HTTP 429"),
    ],
)
def test_misbehavior_is_one_sentence_and_is_never_asked_again(act: str, told: str) -> None:
    async def story(server: MockServer, target: Target) -> tuple[Run, int]:
        return await closed_loop(target, asked(3), 1, lambda: None), len(server.seen)

    timing = Timing(ttft_s=0.01, gap_s=0.001, act=lambda number: act if number == 1 else "")
    run, seen = with_server(timing, story)
    errors = [sample.error for sample in run.samples]
    assert errors[0] is None
    assert errors[2] is None
    assert errors[1] is not None
    assert told in errors[1]
    assert "provider" not in errors[1]
    assert "\n" not in errors[1]
    assert seen == 3


def test_many_failures_in_a_row_are_all_asked_for() -> None:
    async def story(server: MockServer, target: Target) -> tuple[Run, int]:
        return await closed_loop(target, asked(12), 2, lambda: None), len(server.seen)

    run, seen = with_server(Timing(act=lambda _number: "500"), story)
    assert seen == 12
    assert all(sample.error and "HTTP 500" in sample.error for sample in run.samples)


def test_a_request_that_is_called_off_is_called_off_at_the_server() -> None:
    async def story(server: MockServer, target: Target) -> int:
        task = asyncio.create_task(closed_loop(target, asked(1, 100), 1, lambda: None))
        while not server.in_work:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        task.cancel()
        for _ in range(100):
            if not server.in_work:
                break
            await asyncio.sleep(0.02)
        return server.in_work

    assert with_server(Timing(ttft_s=0.05, gap_s=0.05), story) == 0


def test_the_one_model_of_a_server_is_found() -> None:
    async def story(server: MockServer, target: Target) -> str:
        return target.settings.model

    assert with_server(Timing(models=("only",)), story, model="") == "only"


def refusal(timing: Timing, model: str = "mock", key: str = "") -> str:
    async def story(server: MockServer, target: Target) -> None:
        await target.try_out(asked(1)[0])

    with pytest.raises((ConfigError, EngineError)) as caught:
        with_server(timing, story, model, key)
    return str(caught.value)


def test_what_is_wrong_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG_KEY", "sk-wrong")
    assert "serves 2 models: a, b" in refusal(Timing(models=("a", "b")), model="")
    assert "has no model 'nope'" in refusal(Timing(), model="nope")
    told = refusal(Timing(key="sk-right"))
    assert "asks for a key" in told
    assert "--key env:NAME" in told
    told = refusal(Timing(key="sk-right"), key="env:WRONG_KEY")
    assert "WRONG_KEY" in told
    assert "sk-wrong" not in told
    assert "web page" in refusal(Timing(act=lambda _number: "html"))


@pytest.mark.parametrize(
    ("url", "key", "told"),
    [
        ("127.0.0.1:8000/v1", "", "must begin with https:// or http://"),
        ("http://127.0.0.1:8000/v1/chat/completions", "", "--url ends in /chat/completions"),
        ("http://127.0.0.1:8000/v1", "sk-secret", "write --key as env:NAME"),
        ("http://example.org/v1", "env:KEY", "unencrypted"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str, key: str, told: str) -> None:
    async def story() -> None:
        async with open_target(url, "m", key):
            pass

    with pytest.raises(ConfigError) as caught:
        asyncio.run(story())
    assert told in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_told() -> None:
    async def story() -> None:
        async with open_target("http://127.0.0.1:9/v1", "m") as target:
            await target.try_out(asked(1)[0])

    with pytest.raises(EngineError, match="cannot be reached at 127.0.0.1:9") as caught:
        asyncio.run(story())
    assert "Is it running?" in caught.value.hint


def test_the_servers_own_count_tells_how_long_words_are() -> None:
    async def story(server: MockServer, target: Target) -> Meter:
        return await target.meter(Prose())

    meter = with_server(Timing(ttft_s=0.0, gap_s=0.0), story)
    assert meter.tokens_per_word == pytest.approx(1.0)
    assert meter.overhead_tokens == pytest.approx(5.0)
