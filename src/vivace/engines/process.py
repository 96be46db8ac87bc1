"""An engine in a process of its own: conversations in, text out, whatever happens to the process."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from itertools import count
from time import monotonic
from typing import Any, Protocol, cast

import msgspec

from vivace.domain import Chunk, Message, Model, Request, Sampling
from vivace.engines.answer import Answer
from vivace.engines.backend import ENGINES, INSTALL_LOOP, Backend
from vivace.engines.child import Child, failure
from vivace.engines.frames import Add, Cancel, Command, Event, Failed, Load, Score, Scored, Tokens
from vivace.engines.limits import engine_threads, free_memory_bytes
from vivace.engines.tokens import Tokenizer, open_tokenizer
from vivace.errors import ConfigError, EngineDied, EngineError, RequestError
from vivace.models import fits
from vivace.registry import nearest

HANG_TIMEOUT_S = 180.0
LONG_PROMPT_CHARS = 20_000
BACKOFF_S = (0.0, 1.0, 2.0, 4.0)
LONGEST_BACKOFF_S = 30.0


class Engine(Protocol):
    """A responder with a model: it also says what it is, how it is, and how likely a given answer would be."""

    name: str
    model: Model
    tokenizer: Tokenizer
    context_length: int
    load_s: float

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        ...

    def peak_memory_bytes(self) -> int:
        """Return the most memory its process ever held."""
        ...

    def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer a request."""
        ...

    async def token_logprobs(self, prompt_ids: tuple[int, ...], answer_ids: tuple[int, ...]) -> list[float]:
        """Return the natural log-probability of each answer token."""
        ...


class ProcessEngine:
    """A responder over a child process; see `Engine`.

    When the process ends, everything in work raises `EngineDied`, and the next request starts it again: at once the
    first time, then after a pause that grows until an answer was finished in between.
    """

    def __init__(self, name: str, model: Model, tokenizer: Tokenizer, load: Load, *, hang_timeout_s: float) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.context_length = load.context_length
        self.load_s = 0.0
        self.facts: dict[str, Any] = {}
        self._load = load
        self._repeats = load.engine == "echo"
        self._hang_timeout_s = hang_timeout_s
        self._ids = count(1)
        self._calls: dict[int, asyncio.Queue[Event | EngineDied]] = {}
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._peak_bytes = 0
        self._deaths = 0
        self._died_at = 0.0
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.alive

    @property
    def active(self) -> int:
        """How many requests are in work or waiting."""
        return len(self._calls)

    @property
    def pid(self) -> int | None:
        """The process id, None when there is no process."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def peak_memory_bytes(self) -> int:
        """Return the most memory its process ever held."""
        if self._child is not None:
            self._peak_bytes = max(self._peak_bytes, self._child.peak_memory_bytes())
        return self._peak_bytes

    async def restart(self) -> None:
        """Start the process anew; what was in work raises `EngineDied`."""
        async with self._starting:
            await self._start()

    async def close(self) -> None:
        """End the process; what is in work raises `EngineDied`."""
        self._closed = True
        await self._end_child(EngineDied(f"The {self.name} engine was closed."))

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer; raises `RequestError` for a request that cannot be, `EngineDied` when the process ends under it."""
        sampling = request.sampling
        _check(sampling)
        prompt_ids = await self._encode(request)
        self._check_length(len(prompt_ids), sampling.max_tokens)
        question_ids = self.tokenizer.encode(_question(request.messages)) if self._repeats else ()
        number = next(self._ids)
        queue = await self._send(number, Add(number, prompt_ids, sampling, question_ids))
        answer = Answer(self.tokenizer, sampling.stop, len(prompt_ids))
        try:
            while True:
                chunk = answer.take(cast(Tokens, await _next(queue)))
                if chunk is None:
                    continue
                if chunk.finish_reason is not None:
                    self._deaths = 0
                    # Before the last chunk is given away: who stops reading there must not find the slot taken.
                    self._forget(number, cancel=answer.cut)
                yield chunk
                if chunk.finish_reason is not None:
                    return
        finally:
            self._forget(number, cancel=True)

    async def token_logprobs(self, prompt_ids: tuple[int, ...], answer_ids: tuple[int, ...]) -> list[float]:
        """Return the natural log-probability of each answer token given the prompt and the answer before it."""
        return (await self.token_choices(prompt_ids, answer_ids))[0]

    async def token_choices(
        self, prompt_ids: tuple[int, ...], answer_ids: tuple[int, ...]
    ) -> tuple[list[float], list[bool]]:
        """Return the log-probabilities and whether each token is the likeliest, an empty list where that is unknown."""
        if not prompt_ids or not answer_ids:
            raise RequestError("A likelihood needs a prompt and an answer of at least one token each.", "messages")
        self._check_length(len(prompt_ids), len(answer_ids))
        number = next(self._ids)
        queue = await self._send(number, Score(number, tuple(prompt_ids), tuple(answer_ids)))
        try:
            event = await _next(queue)
            assert isinstance(event, Scored)
            self._forget(number, cancel=False)
            return event.logprobs, event.greedy
        finally:
            self._forget(number, cancel=True)

    async def _encode(self, request: Request) -> tuple[int, ...]:
        if sum(len(message.content) for message in request.messages) < LONG_PROMPT_CHARS:
            return self.tokenizer.encode_chat(request.messages, tools=request.tools)
        # Half a second for a megabyte: everybody else's answers go on meanwhile.
        return await asyncio.to_thread(self.tokenizer.encode_chat, request.messages, tools=request.tools)

    def _check_length(self, prompt_tokens: int, more_tokens: int) -> None:
        if prompt_tokens == 0:
            raise RequestError("The conversation is empty.", "messages")
        if prompt_tokens + more_tokens > self.context_length:
            raise RequestError(
                f"The prompt has {prompt_tokens} tokens and {more_tokens} more are asked for; "
                f"{self.model.name} holds {self.context_length}.",
                "messages",
                "context_length_exceeded",
            )

    async def _send(self, number: int, command: Command) -> asyncio.Queue[Event | EngineDied]:
        child = await self._running()
        queue: asyncio.Queue[Event | EngineDied] = asyncio.Queue()
        self._calls[number] = queue
        child.send(command)
        return queue

    def _forget(self, number: int, *, cancel: bool) -> None:
        if self._calls.pop(number, None) is not None and cancel and self._child is not None:
            self._child.send(Cancel(number))

    async def _running(self) -> Child:
        if not self.alive:
            await self._start_again()
        if self._child is None:  # closed while this waited for it
            raise EngineError(f"The {self.name} engine is closed.")
        return self._child

    async def _start(self) -> None:
        if self._closed:
            raise EngineError(f"The {self.name} engine is closed.")
        await self._end_child(EngineDied(f"The {self.name} engine was restarted."))
        self._child, ready = await Child.start(self._load, self._on_event, self._on_end, self._hang_timeout_s)
        self.load_s, self.facts, self.context_length = ready.load_s, ready.facts, ready.context_length

    async def _start_again(self) -> None:
        pause_s = BACKOFF_S[self._deaths - 1] if 0 < self._deaths <= len(BACKOFF_S) else LONGEST_BACKOFF_S
        left_s = self._died_at + pause_s - monotonic()
        if self._deaths > len(BACKOFF_S) and left_s > 0:
            raise EngineDied(
                f"The {self.name} engine has ended {self._deaths} times in a row; it starts again in {left_s:.0f} s."
            )
        async with self._starting:
            if self.alive:
                return  # another request has started it meanwhile
            await asyncio.sleep(max(0.0, left_s))
            try:
                await self._start()
            except EngineError as error:
                self._count_death()
                raise EngineDied(f"The {self.name} engine does not start again: {error.message}", error.hint) from error

    def _on_event(self, event: Event) -> None:
        queue = self._calls.get(cast(Tokens, event).id)
        if queue is not None:  # else it was cancelled and this crossed it on the way
            queue.put_nowait(event)

    def _on_end(self, reason: EngineDied) -> None:
        self._count_death()
        for queue in self._calls.values():
            queue.put_nowait(reason)

    def _count_death(self) -> None:
        self._deaths += 1
        self._died_at = monotonic()

    async def _end_child(self, reason: EngineDied) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.close()
            self._peak_bytes = max(self._peak_bytes, child.peak_memory_bytes())
        for queue in self._calls.values():
            queue.put_nowait(reason)


async def _next(queue: asyncio.Queue[Event | EngineDied]) -> Event:
    event = await queue.get()
    if isinstance(event, EngineDied):
        raise EngineDied(event.message, event.hint)  # one each: a traceback belongs to one caller
    if isinstance(event, Failed):
        raise failure(event)
    return event


def _check(sampling: Sampling) -> None:
    if sampling.max_tokens < 1:
        raise RequestError(f"max_tokens is {sampling.max_tokens}; at least 1 is needed.", "max_tokens")
    if not 0 <= sampling.temperature <= 100:
        raise RequestError(f"temperature is {sampling.temperature}; it must be 0 to 2.", "temperature")
    if not 0 < sampling.top_p <= 1:
        raise RequestError(f"top_p is {sampling.top_p}; it must be above 0 and at most 1.", "top_p")


def _question(messages: Sequence[Message]) -> str:
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


@asynccontextmanager
async def open_engine(
    name: str,
    model: Model,
    *,
    threads: int | None = None,
    max_batch: int = 32,
    prefix_cache: bool = True,
    options: Mapping[str, Any] | None = None,
    hang_timeout_s: float = HANG_TIMEOUT_S,
) -> AsyncGenerator[ProcessEngine, None]:
    """Open `model` on the engine called `name` and close it at the end.

    `threads` defaults to the cores this process may use. Raises `ConfigError` for an unknown engine or option,
    `EngineError` for a format it does not open or a library that is missing, `ResourceError` when the weights do not
    fit into memory, `ModelError` for a broken model folder. A provider's model is asked where it runs.
    """
    if model.format == "remote":
        from vivace.engines.remote import open_remote

        async with open_remote(name, model) as remote:
            yield cast(ProcessEngine, remote)
        return
    backend: type[Backend] = ENGINES.load(name)
    _check_backend(name, backend, model, dict(options or {}))
    tokenizer, _ = await asyncio.gather(
        asyncio.to_thread(open_tokenizer, model), asyncio.to_thread(fits, model, free_memory_bytes())
    )
    load = Load(
        engine=name,
        folder=str(model.path),
        format=model.format,
        threads=engine_threads(threads),
        max_batch=max_batch,
        prefix_cache=prefix_cache,
        context_length=tokenizer.context_length,
        vocab_size=tokenizer.vocab_size,
        eos_ids=tuple(sorted(tokenizer.eos_ids)),
        base=str(model.base) if model.base else None,
        options=msgspec.to_builtins(dict(options or {})),
    )
    engine = ProcessEngine(name, model, tokenizer, load, hang_timeout_s=hang_timeout_s)
    try:
        await engine.restart()
        yield engine
    finally:
        await engine.close()


def _check_backend(name: str, backend: type[Backend], model: Model, options: Mapping[str, Any]) -> None:
    if model.format not in backend.formats:
        raise EngineError(
            f"The {name} engine does not open {model.name}, a model in format {model.format!r}.",
            f"It opens: {', '.join(sorted(backend.formats))}.",
        )
    for option in options:
        if option not in backend.options:
            raise ConfigError(f"The {name} engine has no option {option!r}.", nearest(option, sorted(backend.options)))
    for library in backend.libraries:
        if find_spec(library) is None:
            raise EngineError(f"The {name} engine needs {library}, which is not installed.", INSTALL_LOOP)
