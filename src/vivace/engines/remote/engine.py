"""An engine that is somebody else's server: conversations go out over HTTP, text comes back."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from vivace.config.providers import ProviderSettings
from vivace.domain import Chunk, Model, Request, Sampling, Usage
from vivace.engines.remote.anthropic import AnthropicDialect
from vivace.engines.remote.breaker import Breaker
from vivace.engines.remote.dialect import Dialect
from vivace.engines.remote.failures import Failed, Teller, read_error
from vivace.engines.remote.folder import read_provider
from vivace.engines.remote.openai import OpenAIDialect
from vivace.engines.remote.reading import Reading
from vivace.engines.remote.retries import LONGEST_WAIT_S, RetryBudget, pause_s
from vivace.engines.remote.tokens import EstimatingTokenizer
from vivace.engines.remote.wire import Reply, Secrets, Wire
from vivace.engines.tokens import Tokenizer, open_tokenizer
from vivace.errors import EngineError, RequestError

Item = TypeVar("Item")
_DIALECTS: dict[str, Callable[[ProviderSettings], Dialect]] = {"openai": OpenAIDialect, "anthropic": AnthropicDialect}


class RemoteEngine:
    """A responder over HTTP; see `vivace.engines.Engine`.

    An answer that fails before its first token is asked for again while deadline, budget and breaker allow it; then
    `ProviderUnavailable` is raised. One that breaks off later raises `EngineError`: a part is never given as the whole.
    It tells no likelihoods, so it has no `token_logprobs`; `LikelyEngine` does.
    """

    load_s = 0.0

    def __init__(self, name: str, model: Model, settings: ProviderSettings, tokenizer: Tokenizer) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.context_length = settings.context_length
        self._settings = settings
        self._dialect = _DIALECTS[settings.engine](settings)
        secrets = Secrets(settings)
        self.teller = Teller(model.name, settings, urlsplit(settings.url).netloc, secrets.values())
        headers = self._dialect.headers() | {key: secrets[value] for key, value in settings.headers.items()}
        if settings.api_key:
            header, before = self._dialect.key_header()
            headers[header] = before + secrets[settings.api_key]
        self._wire = Wire(settings, headers, self.teller)
        self._slots = asyncio.Semaphore(settings.max_concurrent)
        self._budget = RetryBudget()
        self._breaker = Breaker(model.name)
        self._counts = dict.fromkeys(("requests", "attempts", "prompt_tokens", "completion_tokens", "usage_unknown"), 0)
        self._active = 0
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether the provider may be asked: false while its failures keep everybody away."""
        return not self._closed and self._breaker.state != "open"

    @property
    def active(self) -> int:
        """How many requests are in work or waiting."""
        return self._active

    @property
    def pid(self) -> int | None:
        """None: no process of ours."""
        return None

    @property
    def facts(self) -> dict[str, Any]:
        """What was asked and told so far; `cost_usd` where prices are set, of the answers whose usage was told."""
        settings = self._settings
        told: dict[str, Any] = {"host": urlsplit(settings.url).netloc, "model": settings.model, **self._counts}
        told["tokenizer"] = "estimate" if isinstance(self.tokenizer, EstimatingTokenizer) else "the model's own"
        read, written = settings.price_per_million_input_tokens, settings.price_per_million_output_tokens
        if read is not None and written is not None:
            counts = self._counts
            told["cost_usd"] = (counts["prompt_tokens"] * read + counts["completion_tokens"] * written) / 1e6
        return told

    def peak_memory_bytes(self) -> int:
        """Return 0: the provider's memory is not ours to see."""
        return 0

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        await self._wire.close()

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer; raises `RequestError` for a request that is refused, `ProviderUnavailable`, `EngineError`."""
        _check(request)
        last: Chunk | None = None
        async with aclosing(self._persist(lambda until: self._attempt(request, until))) as chunks:
            async for chunk in chunks:
                if chunk.finish_reason is not None:
                    last = chunk
                else:
                    yield chunk
        # After everything is given back: who stops reading at the last chunk must not find the slot taken.
        assert last is not None
        yield last

    async def _persist(self, attempt: Callable[[float], AsyncGenerator[Item, None]]) -> AsyncGenerator[Item, None]:
        """Give what an attempt gives; one that fails before it gave anything is followed by another."""
        if self._closed:
            raise EngineError(f"The provider {self.model.name} was closed.")
        loop = asyncio.get_running_loop()
        self._active += 1
        try:
            async with self._slots:
                self._budget.pay_in()
                self._counts["requests"] += 1
                until = loop.time() + self._settings.timeouts.total_s
                tried = learned = 0
                while True:
                    given, failure = False, None
                    self._counts["attempts"] += 1
                    try:
                        async with aclosing(attempt(until)) as items:
                            async for item in items:
                                given = True
                                yield item
                    except Failed as error:
                        failure = error
                    if failure is None:
                        return
                    if given:
                        raise failure.error
                    if learned < 2 and failure.told is not None and self._dialect.adapt(failure.told):
                        learned += 1
                        continue
                    await asyncio.sleep(self._patience(failure, tried, until - loop.time()))
                    tried += 1
        finally:
            self._active -= 1

    def _patience(self, failure: Failed, tried: int, left_s: float) -> float:
        """Return how long to wait before the next attempt; raises where there is none."""
        tell, retries = self.teller, self._settings.max_retries
        if not failure.retry or tried >= retries:
            raise tell.given_up(failure, tried + 1)
        if self._breaker.state == "open":
            raise self._breaker.refusal()
        wait_s = pause_s(tried, failure.after_s)
        if wait_s > LONGEST_WAIT_S:
            raise tell.given_up(failure, tried + 1, f"It asks for {wait_s:.0f} s of patience: try again then.")
        if wait_s >= left_s:
            raise tell.given_up(failure, tried + 1, f"No more time is left of {self._settings.timeouts.total_s:g} s.")
        if not self._budget.take():
            raise tell.given_up(failure, tried + 1, "So many requests failed of late that it is not asked again.")
        return wait_s

    async def _attempt(self, request: Request, until: float) -> AsyncGenerator[Chunk, None]:
        """Ask once; raises `Failed`."""
        loop, settings = asyncio.get_running_loop(), self._settings
        body = encode(self._dialect.body(request))
        times = settings.timeouts
        with self._breaker.attempt() as ticket:
            first_by = loop.time() + times.first_token_s if settings.stream else until
            reading = Reading(self._dialect.reader(), request, self.teller)
            reply = await self._open(self._dialect.endpoint, body, min(first_by, until), until)
            try:
                by, key = first_by, "first_token_s"
                while not reading.over:
                    piece = await self._by(reply.piece(), by, until, key)
                    text = reading.take(piece)
                    if reading.moved:
                        ticket.alive()
                    if text:
                        yield Chunk(text)
                    if reading.moved and settings.stream:
                        # From here, not from before: how long the caller took over the chunk is not the provider's.
                        by, key = loop.time() + times.between_tokens_s, "between_tokens_s"
                last = reading.last()
                if not reading.cut:
                    await reply.keep()
            finally:
                reply.close()
        yield self._noted(request, last, reading)

    async def _open(self, endpoint: str, body: bytes, by: float, until: float) -> Reply:
        """Send and return the reply to a request that was accepted; raises `Failed`."""
        accept = "text/event-stream, application/json" if self._settings.stream else "application/json"
        reply = await self._by(self._wire.post(endpoint, body, accept), by, until, "first_token_s")
        if reply.status == 200:
            return reply
        try:
            told = read_error(await self._by(reply.beginning(), by, until, "first_token_s"))
        finally:
            reply.close()
        raise self.teller.refused(reply.status, reply.headers, told)

    async def _by(self, work: Awaitable[Item], by: float, until: float, key: str) -> Item:
        """Wait for `work` until a phase's deadline or that of the whole answer; raises `Failed`."""
        try:
            async with asyncio.timeout_at(min(by, until)) as limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
        times = self._settings.timeouts
        if until <= by:
            raise self.teller.late("did not finish its answer", times.total_s, "total_s")
        what = "began no answer" if key == "first_token_s" else "went silent in the middle of an answer: no token came"
        raise self.teller.late(what, getattr(times, key), key)

    def _noted(self, request: Request, last: Chunk, reading: Reading) -> Chunk:
        """Count the tokens of an answer; one without usage has it counted if the model's own tokenizer is here."""
        usage = last.usage
        if usage is None and not reading.thought and not isinstance(self.tokenizer, EstimatingTokenizer):
            prompt = self.tokenizer.encode_chat(request.messages, tools=request.tools)
            usage = Usage(len(prompt), len(self.tokenizer.encode(reading.text)))
        if usage is None:
            self._counts["usage_unknown"] += 1
            return last
        self._counts["prompt_tokens"] += usage.prompt_tokens
        self._counts["completion_tokens"] += usage.completion_tokens
        return msgspec.structs.replace(last, usage=usage)


@asynccontextmanager
async def open_remote(name: str, model: Model) -> AsyncGenerator[RemoteEngine, None]:
    """Open the provider whose folder `model` is and close its connections at the end; nothing is sent before a request.

    Raises `ConfigError` when the environment lacks its key, `EngineError` for a folder of another protocol.
    """
    settings = read_provider(model.path)
    if settings.engine != name:
        raise EngineError(
            f"The {name} engine does not open {model.name}, a provider that speaks {settings.engine!r}.",
            f"Use the engine {settings.engine}.",
        )
    tokenizer: Tokenizer = EstimatingTokenizer(settings.context_length)
    if (model.path / "tokenizer.json").is_file():
        tokenizer = await asyncio.to_thread(open_tokenizer, model)
    if settings.likelihood:
        from vivace.engines.remote.likelihood import LikelyEngine

        likely = LikelyEngine(name, model, settings, tokenizer)
        try:
            await likely.try_out()
            yield likely
        finally:
            await likely.close()
        return
    engine = RemoteEngine(name, model, settings, tokenizer)
    try:
        yield engine
    finally:
        await engine.close()


def encode(body: dict[str, Any]) -> bytes:
    """Return a body as JSON; raises `RequestError` for text that is none."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise RequestError("The text holds half a surrogate pair, which is not a character.", "messages") from error


def _check(request: Request) -> None:
    sampling: Sampling = request.sampling
    if not request.messages:
        raise RequestError("The conversation is empty.", "messages")
    if sampling.max_tokens < 1:
        raise RequestError(f"max_tokens is {sampling.max_tokens}; at least 1 is needed.", "max_tokens")
    if not 0 <= sampling.temperature <= 2:
        raise RequestError(f"temperature is {sampling.temperature}; it must be 0 to 2.", "temperature")
    if not 0 < sampling.top_p <= 1:
        raise RequestError(f"top_p is {sampling.top_p}; it must be above 0 and at most 1.", "top_p")
