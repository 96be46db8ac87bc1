"""A lean client of an OpenAI-protocol server for measuring it: nothing is asked twice, nothing is kept waiting here."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
from pydantic import ValidationError

from vivace.bench.traffic.lengths import Meter, Prose, fit
from vivace.config.providers import ProviderSettings
from vivace.domain import Chunk, Message, Request, Sampling, Usage
from vivace.engines.remote.engine import encode
from vivace.engines.remote.failures import Failed, Teller, read_error
from vivace.engines.remote.openai import OpenAIDialect, OpenAIReader
from vivace.engines.remote.reading import Reading
from vivace.engines.remote.tokens import EstimatingTokenizer
from vivace.engines.remote.wire import Secrets, Wire
from vivace.errors import ConfigError, EngineError, RequestError, VivaceError

LONG_CONTEXT = 10_000_000
FIRST_ANSWER_S = 120.0
MODELS_S = 20.0
MODELS_BYTES = 1_000_000
_ABOUT_TABLES = re.compile(r"[^.]*\[models\.providers[^.]*\.?[^.]*(\.|$)")
_UNTOLD = Chunk(token_ids=(0,))
"""A token came that is not told as text, such as one of a thought: it counts as the first token all the same."""


class Counting(OpenAIReader):
    """A reader of answers that also counts the events with tokens in them."""

    def __init__(self) -> None:
        super().__init__()
        self.events = 0

    def event(self, data: Mapping[str, Any]) -> str:
        """Return the text that a chunk adds."""
        before, self.thought = self.thought, False
        text = super().event(data)
        self.events += bool(text or self.thought)
        self.thought = self.thought or before
        return text


class Target:
    """A responder that sends each request once; usage that the server does not tell is counted from its events.

    `counted` says how many answers' tokens the server told and how many were estimated.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self.host = urlsplit(settings.url).netloc
        self.counted: Counter[str] = Counter()
        self.dialect = OpenAIDialect(settings)
        secrets = Secrets(settings)
        self._teller = Teller(self.host, settings, self.host, secrets.values())
        headers = {name: secrets[value] for name, value in settings.headers.items()}
        if settings.api_key:
            name, before = self.dialect.key_header()
            headers[name] = before + secrets[settings.api_key]
        self.headers = headers
        self._wire = Wire(settings, headers, self._teller)
        self._tokenizer = EstimatingTokenizer(LONG_CONTEXT)

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer; raises `EngineError` or `RequestError` at the first failure."""
        try:
            async for chunk in self._ask(request):
                yield chunk
        except Failed as failure:
            error = _ours(failure.error, self.host)
        else:
            return
        raise error

    async def try_out(self, request: Request) -> Usage:
        """Ask once and learn how the server wants requests written; raises as `__call__` does."""
        for left in (2, 1, 0):
            usage: Usage | None = None
            try:
                async with asyncio.timeout(FIRST_ANSWER_S):
                    async for chunk in self._ask(request):
                        usage = chunk.usage or usage
            except TimeoutError:
                error: VivaceError = EngineError(f"The server {self.host} began no answer in {FIRST_ANSWER_S:.0f} s.")
                break
            except Failed as failure:
                error = _ours(failure.error, self.host)
                if not left or failure.told is None or not self.dialect.adapt(failure.told):
                    break
            else:
                assert usage is not None
                return usage
        raise error

    async def meter(self, prose: Prose) -> Meter:
        """Return what prompts of this text come to, by the server's own count of two of them."""
        counts = []
        for number, text in enumerate(prose.trials()):
            asked = Request(f"length/{number}", (Message("user", text),), sampling=Sampling(max_tokens=1))
            counts.append((await self.try_out(asked)).prompt_tokens)
        return fit(*counts)

    def told(self, error: Exception) -> VivaceError:
        """Return an error of the client library as one of ours."""
        return _ours(self._wire.explain(error).error, self.host)

    async def _ask(self, request: Request) -> AsyncGenerator[Chunk, None]:
        reader = Counting()
        reading = Reading(reader, request, self._teller)
        reply = await self._wire.post(
            self.dialect.endpoint, encode(self.dialect.body(request)), "text/event-stream, application/json"
        )
        try:
            if reply.status != 200:
                raise self._teller.refused(reply.status, reply.headers, read_error(await reply.beginning()))
            while not reading.over:
                before = reader.events
                text = reading.take(await reply.piece())
                if text:
                    yield Chunk(text)
                elif reading.moved:
                    yield _UNTOLD
                for _ in range(reader.events - before - 1):  # several events came at once: so did their tokens
                    yield _UNTOLD
            last = reading.last()
            yield msgspec.structs.replace(last, usage=self._usage(request, last.usage, reader.events, reading.text))
            if not reading.cut:
                await reply.keep()
        finally:
            reply.close()

    def _usage(self, request: Request, told: Usage | None, events: int, text: str) -> Usage:
        if told is not None:
            self.counted["server"] += 1
            return told
        self.counted["estimate"] += 1
        prompt = len(self._tokenizer.encode_chat(request.messages))
        return Usage(prompt, max(events if events > 1 else len(self._tokenizer.encode(text)), 1))


@asynccontextmanager
async def open_target(url: str, model: str, key: str = "") -> AsyncGenerator[Target, None]:
    """Open the server at `url`; without `model` it must serve exactly one.

    Raises `ConfigError` for an address, key or model that cannot be used and `EngineError` where no server answers.
    """
    target = Target(_settings(url, model or "?", key))
    try:
        if not model:
            only = await _only_model(target)
            await target.close()
            target = Target(_settings(url, only, key))
        yield target
    finally:
        await target.close()


def _settings(url: str, model: str, key: str) -> ProviderSettings:
    message = ""
    try:
        return ProviderSettings(base_url=url, model=model, api_key=key, ignore_eos=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
    told = message.replace("base_url", "--url").replace("api_key", "--key")
    told = told.replace(", or set allow_plain_http = true", "").replace(": use --key or headers", ": use --key")
    raise ConfigError(f"The server cannot be asked: {told}.", "For example: --url http://127.0.0.1:8000/v1")


async def _only_model(target: Target) -> str:
    """Return the name of the one model that the server lists."""
    import aiohttp

    hint = "Name the model: --model NAME."
    limit = aiohttp.ClientTimeout(total=MODELS_S)
    try:
        async with (
            aiohttp.ClientSession(
                headers=target.headers, timeout=limit, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.get(f"{target.settings.url}/models", allow_redirects=False) as reply,
        ):
            status, body = reply.status, await reply.content.read(MODELS_BYTES)
    except TimeoutError:
        error: VivaceError = EngineError(f"The server {target.host} listed no models in {MODELS_S:.0f} s.", hint)
    except (aiohttp.ClientError, OSError, ValueError) as failure:
        error = target.told(failure)
    else:
        if status in (401, 403):
            raise EngineError(
                f"The server {target.host} asks for a key, or for another one (HTTP {status}).",
                "Name the variable that holds it: --key env:NAME.",
            )
        names = _names(body) if status == 200 else []
        if len(names) == 1:
            return names[0]
        if names:
            raise ConfigError(f"The server {target.host} serves {len(names)} models: {', '.join(names[:10])}.", hint)
        raise EngineError(
            f"The server {target.host} lists no models at {target.settings.url}/models (HTTP {status}).",
            f"{hint} The address of most servers ends in /v1.",
        )
    raise error  # outside: a caught error may hold the headers, and with them the key


def _names(body: bytes) -> list[str]:
    try:
        data = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return []
    rows = data.get("data") if isinstance(data, dict) else None
    return [row["id"] for row in rows or () if isinstance(row, dict) and isinstance(row.get("id"), str)]


def _ours(error: VivaceError, host: str) -> VivaceError:
    """Return a failure in the words of this command, which knows no providers."""

    def plain(text: str) -> str:
        text = text.replace(f"provider {host}", "server").replace("the address in vivace.toml", "the address named")
        text = _ABOUT_TABLES.sub("", text)
        return text.replace("Check model and base_url", "Check --model and --url").replace("base_url", "--url").strip()

    message, hint = plain(error.message), plain(error.hint)
    if "asks for a key" in message:
        hint = "Name the variable that holds it: --key env:NAME."
    if isinstance(error, RequestError):
        return RequestError(message, error.param, error.code)
    return EngineError(message, hint)
