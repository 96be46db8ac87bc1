"""Ask engines in tests."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from vivace.domain import Chunk, Message, Model, ModelFormat, Request, Responder, Sampling
from vivace.engines import ProcessEngine, open_engine

Result = TypeVar("Result")


def echo(folder: Path) -> Model:
    return Model("echo", folder, "echo", "none")


def of_format(folder: Path, model_format: ModelFormat) -> Model:
    return Model("tiny", folder, model_format, "fp32")


def request(text: str, **sampling: Any) -> Request:
    return Request(f"r-{text[:20]}", (Message("user", text),), sampling=Sampling(**sampling))


async def collect(responder: Responder, asked: Request) -> list[Chunk]:
    async with aclosing(responder(asked)) as chunks:
        return [chunk async for chunk in chunks]


async def ask(responder: Responder, text: str, **sampling: Any) -> tuple[str, Chunk]:
    """Return the whole text and the last chunk."""
    chunks = await collect(responder, request(text, **sampling))
    return "".join(chunk.text for chunk in chunks), chunks[-1]


async def ids_of(responder: Responder, text: str, **sampling: Any) -> list[int]:
    chunks = await collect(responder, request(text, **sampling))
    return [token for chunk in chunks for token in chunk.token_ids]


def with_engine(
    name: str, model: Model, story: Callable[[ProcessEngine], Coroutine[Any, Any, Result]], **options: Any
) -> Result:
    """Open an engine, let the story happen, close it."""

    async def run() -> Result:
        async with open_engine(name, model, **options) as engine:
            return await story(engine)

    return asyncio.run(run())


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> float:
    """Wait until `condition` holds and return how long that took."""
    clock = asyncio.get_running_loop().time
    started = clock()
    while not condition():
        assert clock() - started < seconds, "it never came true"
        await asyncio.sleep(0.005)
    return clock() - started


async def outcome(work: Awaitable[Any]) -> BaseException:
    """Return what `work` raises."""
    try:
        await work
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")
