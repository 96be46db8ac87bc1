"""The driver's clock, against servers whose timing is known.

The upper limits are loose: a busy machine may be late, but never early.
"""

import asyncio
from collections.abc import AsyncGenerator

from vivace.bench.load import Run, closed_loop, open_loop
from vivace.domain import Chunk, Message, Request, Usage
from vivace.errors import EngineError, Overloaded

LATE_MS = 150


class TimedServer:
    """Answers with a known time to the first token and between tokens; may stall once, and count who is inside."""

    def __init__(self, ttft_s: float = 0.05, gap_s: float = 0.02, tokens: int = 6, *, serial: bool = False) -> None:
        self.ttft_s, self.gap_s, self.tokens = ttft_s, gap_s, tokens
        self.stalls: dict[str, float] = {}
        self.errors: dict[str, Exception] = {}
        self.inside = self.most = 0
        self.turn = asyncio.Lock() if serial else None

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if self.turn is None:
                async for chunk in self.answer(request):
                    yield chunk
            else:
                async with self.turn:
                    async for chunk in self.answer(request):
                        yield chunk
        finally:
            self.inside -= 1

    async def answer(self, request: Request) -> AsyncGenerator[Chunk, None]:
        await asyncio.sleep(self.stalls.get(request.id, 0.0))
        if request.id in self.errors:
            raise self.errors[request.id]
        await asyncio.sleep(self.ttft_s)
        for number in range(self.tokens):
            if number:
                await asyncio.sleep(self.gap_s)
            yield Chunk(text="x", token_ids=(number,))
        yield Chunk(finish_reason="stop", usage=Usage(10, self.tokens, 4))


def requests(count: int) -> list[Request]:
    return [Request(str(number), (Message("user", "hi"),)) for number in range(count)]


def closed(server: TimedServer, count: int, concurrency: int) -> Run:
    return asyncio.run(closed_loop(server, requests(count), concurrency, lambda: None))


def test_first_token_and_token_times_are_what_the_server_took() -> None:
    (sample,) = closed(TimedServer(ttft_s=0.2, gap_s=0.05, tokens=6), 1, 1).samples
    assert sample.ttft_ms is not None
    assert sample.tpot_ms is not None
    assert 199 <= sample.ttft_ms < 200 + LATE_MS
    assert 49 <= sample.tpot_ms < 50 + LATE_MS / 5
    assert 449 <= sample.e2e_ms < 450 + LATE_MS
    assert (sample.prompt_tokens, sample.completion_tokens, sample.cached_tokens) == (10, 6, 4)
    assert sample.error is None


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    (sample,) = closed(TimedServer(tokens=1), 1, 1).samples
    assert sample.ttft_ms is not None
    assert sample.tpot_ms is None


def test_a_closed_loop_keeps_so_many_in_work_and_no_more() -> None:
    server = TimedServer(ttft_s=0.02, gap_s=0.0)
    run = closed(server, 12, 4)
    assert server.most == 4
    assert [sample.request_id for sample in run.samples] == [str(number) for number in range(12)]
    assert run.seconds >= 3 * 0.02


def test_an_open_loop_sends_at_the_offsets_whatever_the_server_does() -> None:
    server = TimedServer(ttft_s=0.3, tokens=1)
    offsets = [0.0, 0.05, 0.1, 0.15]
    run = asyncio.run(open_loop(server, requests(4), offsets, lambda: None))
    assert server.most == 4
    for sample, offset in zip(run.samples, offsets, strict=True):
        assert sample.intended_s == offset
        assert offset <= sample.sent_s < offset + LATE_MS / 1e3


def test_a_stall_is_charged_for_everybody_it_kept_waiting() -> None:
    async def story() -> Run:
        server = TimedServer(ttft_s=0.01, gap_s=0.0, tokens=2, serial=True)
        server.stalls["2"] = 1.0
        return await open_loop(server, requests(10), [0.1 * number for number in range(10)], lambda: None)

    run = asyncio.run(story())
    waits = [sample.ttft_ms or 0.0 for sample in run.samples]
    assert max(waits[:2]) < 200
    assert waits[2] > 1000
    for number in range(3, 9):  # each came 100 ms later, and waited so much less
        assert waits[number] > 1000 - 100 * (number - 2) - 50
    assert sum(wait > 300 for wait in waits) >= 6


def test_a_late_driver_does_not_forgive_the_time_it_lost() -> None:
    async def story() -> Run:
        async def block_the_loop() -> None:
            await asyncio.sleep(0.05)
            import time

            time.sleep(0.5)

        blocking = asyncio.create_task(block_the_loop())
        run = await open_loop(TimedServer(ttft_s=0.01, tokens=1), requests(2), [0.0, 0.1], lambda: None)
        await blocking
        return run

    late = asyncio.run(story()).samples[1]
    assert late.sent_s > 0.5
    assert late.intended_s == 0.1
    assert late.e2e_ms > 400
    assert late.ttft_ms is not None
    assert late.ttft_ms > 400


def test_failures_are_counted_and_the_rest_goes_on() -> None:
    server = TimedServer()
    server.errors = {"1": Overloaded("No room."), "3": EngineError("Broken.")}
    done = []
    run = asyncio.run(closed_loop(server, requests(5), 2, lambda: done.append(1)))
    assert [sample.error for sample in run.samples] == [
        None,
        "Overloaded: No room.",
        None,
        "EngineError: Broken.",
        None,
    ]
    assert len(done) == 5
