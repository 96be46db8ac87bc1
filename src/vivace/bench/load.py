"""The load: requests sent in a closed or an open loop, and the times of each."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import pairwise
from time import perf_counter

from msgspec import Struct

from vivace.domain import Request, Responder
from vivace.errors import VivaceError

REQUEST_DEADLINE_S = 300.0

Done = Callable[[], None]


class Sample(Struct, frozen=True, omit_defaults=True):
    """One request's times, in seconds from the start of its loop; `intended_s` is when it should have been sent."""

    request_id: str
    intended_s: float
    sent_s: float
    finished_s: float
    first_token_s: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    error: str | None = None
    gaps_s: tuple[float, ...] = ()
    """Times between the pieces that the answer came in, each a token or a few."""

    @property
    def ttft_ms(self) -> float | None:
        """Time to the first token, counted from the intended send time."""
        return None if self.first_token_s is None else (self.first_token_s - self.intended_s) * 1e3

    @property
    def tpot_ms(self) -> float | None:
        """Mean time per output token after the first."""
        if self.first_token_s is None or self.completion_tokens < 2:
            return None
        return (self.finished_s - self.first_token_s) * 1e3 / (self.completion_tokens - 1)

    @property
    def e2e_ms(self) -> float:
        """Time to the last token, counted from the intended send time."""
        return (self.finished_s - self.intended_s) * 1e3


class Run(Struct, frozen=True):
    """A finished loop: its samples in the order of the requests, and how long it took."""

    samples: tuple[Sample, ...]
    seconds: float


async def closed_loop(responder: Responder, requests: Sequence[Request], concurrency: int, done: Done) -> Run:
    """Keep `concurrency` requests in work until all are answered."""
    start = perf_counter()
    samples: dict[int, Sample] = {}
    waiting: Iterator[tuple[int, Request]] = iter(enumerate(requests))

    async def worker() -> None:
        for index, request in waiting:
            samples[index] = await send(responder, request, start, perf_counter() - start)
            done()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(requests))):
            group.create_task(worker())
    return Run(tuple(samples[index] for index in sorted(samples)), perf_counter() - start)


async def open_loop(responder: Responder, requests: Sequence[Request], offsets_s: Sequence[float], done: Done) -> Run:
    """Send each request at its offset, however many are still in work.

    Latency counts from the offset even if the request went out later, so that a server that stalls is charged for
    everybody it kept waiting (coordinated omission).
    """
    start = perf_counter()

    async def one(request: Request, intended_s: float) -> Sample:
        sample = await send(responder, request, start, intended_s)
        done()
        return sample

    async with asyncio.TaskGroup() as group:
        tasks = []
        for request, offset_s in zip(requests, offsets_s, strict=True):
            await asyncio.sleep(start + offset_s - perf_counter())
            tasks.append(group.create_task(one(request, offset_s)))
    return Run(tuple(task.result() for task in tasks), perf_counter() - start)


async def send(
    responder: Responder, request: Request, start: float, intended_s: float, first: Done = lambda: None
) -> Sample:
    """Send one request and return its times, counted from `start`; `first` is called at the first token."""
    sent_s = perf_counter() - start
    times_s: list[float] = []
    finished_s: float | None = None
    usage = error = None
    try:
        async with asyncio.timeout(REQUEST_DEADLINE_S), aclosing(responder(request)) as chunks:
            async for chunk in chunks:
                now_s = perf_counter() - start
                if chunk.text or chunk.token_ids:
                    times_s.append(now_s)
                    if len(times_s) == 1:
                        first()
                if chunk.finish_reason is not None:
                    finished_s = now_s  # what is tidied up behind the last chunk is not the answer's time
                usage = chunk.usage or usage
    except TimeoutError:
        error = f"no answer within {REQUEST_DEADLINE_S:.0f} s"
    except VivaceError as failure:
        error = f"{type(failure).__name__}: {failure.message}"
    if error is None and usage is None:
        error = "the answer ended without its usage"
    return Sample(
        request_id=request.id,
        intended_s=intended_s,
        sent_s=sent_s,
        first_token_s=times_s[0] if times_s else None,
        finished_s=perf_counter() - start if finished_s is None or error else finished_s,
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        cached_tokens=usage.cached_tokens if usage else 0,
        error=error,
        gaps_s=tuple(round(later - earlier, 6) for earlier, later in pairwise(times_s)),
    )
