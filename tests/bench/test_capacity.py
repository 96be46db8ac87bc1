"""The highest rate is found, and an overload is seen early."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.bench.capacity import (
    Capacity,
    Goal,
    Probe,
    bounds,
    find_rate,
    grows,
    next_rate,
    probe,
    settle,
)
from vivace.bench.traffic.arrivals import constant
from vivace.domain import Chunk, Message, Request, SilentProgress, Usage
from vivace.errors import EngineError

GOAL = Goal("conversational", 0.9, 5.0)


def made(rate: float, limit: float) -> Probe:
    held = rate <= limit
    return Probe(rate, 40, 40, 40 if held else 20, "held" if held else "missed", 1.0)


def found_for(limit: float, first: float, folder: Path, most: int = 10**6) -> tuple[Capacity | None, int]:
    asked = 0

    async def measure(rate: float, count: int) -> Probe:
        nonlocal asked
        asked += 1
        if asked > most:
            raise KeyboardInterrupt
        return made(rate, limit)

    try:
        found = asyncio.run(find_rate(measure, first, GOAL, folder / "probes.jsonl", SilentProgress()))
    except KeyboardInterrupt:
        return None, asked
    return found, asked


@given(limit=st.floats(0.02, 400), first=st.floats(0.01, 1000))
def test_the_search_brackets_the_true_rate_within_ten_percent(limit: float, first: float) -> None:
    probes: list[Probe] = []
    while (rate := next_rate(probes, first)) is not None:
        probes.append(made(rate, limit))
        assert len(probes) < 60
    held, missed = bounds(probes)
    assert held is not None
    assert missed is not None
    assert held <= limit < missed
    assert missed / held <= 1.1001


def test_an_interrupted_search_goes_on_with_what_it_has_measured(tmp_path: Path) -> None:
    whole, asked = found_for(7.3, 1.0, tmp_path / "whole")
    assert whole is not None
    assert not whole.resumed
    nothing, before = found_for(7.3, 1.0, tmp_path / "cut", most=3)
    assert nothing is None
    resumed, after = found_for(7.3, 1.0, tmp_path / "cut")
    assert resumed is not None
    assert resumed.resumed
    assert resumed.probes == whole.probes
    assert after == asked - (before - 1)


def test_where_no_rate_holds_the_search_ends_and_says_so(tmp_path: Path) -> None:
    found, _asked = found_for(0.0, 1.0, tmp_path)
    assert found is not None
    assert found.held is None
    assert found.sentence.startswith("No rate kept")


def test_few_requests_are_told_to_be_few() -> None:
    few = Capacity(2.0, 2.1, Goal("interactive", 0.99), (made(2.0, 3.0),))
    assert "rests on 40 requests" in few.sentence
    many = Capacity(2.0, 2.1, Goal("interactive", 0.99), (Probe(2.0, 2000, 2000, 2000, "held", 9.0),))
    assert "rests on" not in many.sentence


class Server:
    """Answers so many at a time, each in a known time; the others wait."""

    def __init__(self, slots: int, seconds: float) -> None:
        self.slots, self.seconds = asyncio.Semaphore(slots), seconds
        self.begun = self.left = 0

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.begun += 1
        done = False
        try:
            async with self.slots:
                yield Chunk(text="x")
                await asyncio.sleep(self.seconds)
                yield Chunk(finish_reason="stop", usage=Usage(5, 5))
                done = True
        finally:
            self.left += not done


def requests(count: int) -> list[Request]:
    return [Request(str(number), (Message("user", "hi"),)) for number in range(count)]


def test_a_rate_the_server_keeps_up_with_holds() -> None:
    async def story() -> Probe:
        return await probe(Server(4, 0.05), requests(40), constant(20.0, 40), 20.0, GOAL)

    held = asyncio.run(story())
    assert (held.verdict, held.decided, held.kept, held.reason) == ("held", 40, 40, "")


def test_an_overloaded_server_ends_the_probe_long_before_its_time() -> None:
    async def story() -> tuple[Probe, float, Server]:
        server = Server(1, 0.25)  # 4 a second, asked 40 a second for 15 seconds
        start = perf_counter()
        found = await probe(server, requests(600), constant(40.0, 600), 40.0, GOAL)
        seconds = perf_counter() - start
        await asyncio.sleep(0.05)
        return found, seconds, server

    found, seconds, server = asyncio.run(story())
    assert found.verdict == "missed"
    assert found.reason.startswith("Ended early")
    assert found.kept < found.decided
    assert seconds < 12
    assert server.begun < 600
    assert server.left > 10  # those in work were called off


def test_a_probe_ends_once_the_goal_cannot_be_met_any_more() -> None:
    async def story() -> Probe:
        # No queue: every answer just takes 125 ms a token, where 100 are allowed.
        return await probe(Server(1000, 0.5), requests(300), constant(10.0, 300), 10.0, GOAL)

    found = asyncio.run(story())
    assert found.verdict == "missed"
    assert "more than the goal allows" in found.reason
    assert found.seconds < 15


def test_a_queue_that_grows_is_seen_though_every_answer_was_in_time() -> None:
    async def story() -> Probe:
        return await probe(Server(2, 0.1), requests(100), constant(40.0, 100), 40.0, Goal("conversational", 0.5))

    found = asyncio.run(story())
    assert found.verdict == "missed"
    assert "queue grew" in found.reason or "queue grows" in found.reason


@given(st.integers(0, 200), st.floats(2, 60))
def test_chance_is_rarely_taken_for_a_growing_queue(seed: int, load: float) -> None:
    # A server with room for all: the number in work is Poisson's, anew after each answer's time.
    counts = np.random.default_rng(seed).poisson(load, 100)
    history = [(number * 1.0, int(count)) for number, count in enumerate(counts)]
    assert not grows(history, 1.0, 4.0)


def test_growth_is_told_from_filling_up() -> None:
    assert grows([(t / 10, t) for t in range(100)], 0.5, 4.0)
    assert not grows([(t / 10, t) for t in range(100)], 5.0, 4.0)  # answers take half the time: all still in work
    assert not grows([(t / 10, 8) for t in range(100)], 0.5, 4.0)


def test_a_server_that_recovers_is_waited_for_and_one_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
            raise EngineError("gone")
            yield

    async def story() -> None:
        await settle(Server(1, 0.01), requests(1)[0], 20.0)
        monkeypatch.setattr("vivace.bench.capacity.SETTLE_S", 0.0)
        with pytest.raises(EngineError, match="did not recover"):
            await settle(Broken(), requests(1)[0], 20.0)

    asyncio.run(story())
