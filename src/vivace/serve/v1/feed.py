"""Several answers at once as one stream of pieces that ends when the client leaves."""

import asyncio
from contextlib import AbstractContextManager, aclosing
from types import TracebackType
from typing import Self

from starlette.types import Receive

from vivace.domain import Chunk, Request, Responder
from vivace.errors import EngineError
from vivace.serve.admission import Admission
from vivace.serve.failures import ClientLeft, DrainExpired

Piece = tuple[int, Chunk]


class Feed:
    """The chunks of one call's answers, each with its answer's index.

    `batch` raises what a responder raised, `ClientLeft` when the client closed the connection and `DrainExpired`
    when the server's deadline passed. Leaving the context closes every generator, finished or not.
    """

    def __init__(
        self, responder: Responder, requests: tuple[Request, ...], receive: Receive, admission: Admission
    ) -> None:
        self._responder = responder
        self._requests = requests
        self._receive = receive
        self._admission = admission
        self._queue: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._unfinished = len(requests)
        self._failure: Exception | None = None
        self._expiry: AbstractContextManager[None]

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._pump(index)) for index in range(len(self._requests))]
        # uvicorn tells nobody that a client has left unless somebody is listening.
        self._tasks.append(asyncio.create_task(self._watch()))
        self._expiry = self._admission.on_expiry(lambda: self._queue.put_nowait(DrainExpired()))
        self._expiry.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._expiry.__exit__(kind, error, trace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def batch(self) -> list[Piece]:
        """Return the next pieces, those that are there at once together; an empty list when all answers are done."""
        pieces: list[Piece] = []
        while self._unfinished and self._failure is None and (not pieces or not self._queue.empty()):
            item = await self._queue.get()
            if isinstance(item, Exception):
                self._failure = item
            else:
                pieces.append(item)
                self._unfinished -= item[1].finish_reason is not None
        if self._failure is not None and not pieces:
            raise self._failure
        return pieces

    async def _pump(self, index: int) -> None:
        try:
            async with aclosing(self._responder(self._requests[index])) as chunks:
                async for chunk in chunks:
                    if chunk.finish_reason == "cancelled":
                        raise EngineError("The engine cancelled an answer that nobody had given up.")
                    self._queue.put_nowait((index, chunk))
                    if chunk.finish_reason is not None:
                        return
            raise EngineError("The engine ended an answer without saying why.")
        except Exception as error:
            self._queue.put_nowait(error)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._queue.put_nowait(ClientLeft())
