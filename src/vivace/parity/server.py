"""A server as one more hop: what it counts, what it refuses and what it answers, over OpenAI's protocol."""

import asyncio
import re
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from pydantic import ValidationError

from vivace.config.providers import ProviderSettings, TimeoutSettings
from vivace.domain import Message, Request, Responder, Sampling
from vivace.engines import open_engine
from vivace.engines.remote import save_provider
from vivace.errors import ConfigError, EngineError, RequestError
from vivace.parity import difference
from vivace.parity.findings import Finding, Place
from vivace.parity.rendering import Expected

AT_ONCE = 4
WORDS = {
    "unknown": "the server tells no usage",
    "other": "the server renders another prompt: another template, system prompt or tokenizer",
}
_HINT = "Give the server the release's chat_template.jinja, tokenizer and system prompt; see `vivace release show`."


class Counted(Struct, frozen=True):
    """How many prompt tokens a server counted, None where it told none, or why it refused."""

    prompt_tokens: int | None = None
    refused: str = ""


class Suspect(Struct, frozen=True):
    """A likely cause and how many tokens it adds to a conversation; negative: takes away. `system` says to which.

    `system` is None for all conversations, True for those with a system prompt, False for those without.
    """

    cause: str
    tokens: int
    system: bool | None = None


@asynccontextmanager
async def ask_server(url: str, model: str, api_key: str = "") -> AsyncGenerator[Responder, None]:
    """Open a server that speaks OpenAI's protocol at `url` (the part before /chat/completions); nothing is retried.

    Raises `ConfigError` for an address that cannot be used.
    """
    try:
        settings = ProviderSettings(
            base_url=url, model=model, api_key=api_key, max_retries=0, timeouts=TimeoutSettings(connect_s=5.0)
        )
    except ValidationError as error:
        said = error.errors(include_input=False, include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{url!r} cannot be asked: {said}.") from None
    with tempfile.TemporaryDirectory() as place:
        remote = save_provider("server", settings, Path(place) / "server")
        async with open_engine("openai", remote) as engine:
            yield engine


async def model_name(url: str, api_key: str = "") -> str:
    """Return the name of the one model that a server offers.

    Raises `EngineError` for a server that cannot be reached or tells none, `ConfigError` where it offers several.
    """
    import aiohttp

    headers = {"Authorization": f"Bearer {_key(api_key)}"} if api_key else {}
    place = f"{url.rstrip('/')}/models"
    try:
        timeout = aiohttp.ClientTimeout(total=15)
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(place, allow_redirects=False) as reply,
        ):
            status, told = reply.status, await reply.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise EngineError(
            f"{place} cannot be read: {reason}.", "Is the server running? Name it with --model."
        ) from None
    data = told.get("data") if isinstance(told, dict) else None
    names = [str(item["id"]) for item in data or () if isinstance(item, dict) and item.get("id")]
    if status != 200 or not names:
        raise EngineError(f"{place} names no model (HTTP {status}).", "Name it with --model, its key with --key.")
    if len(names) > 1:
        raise ConfigError(f"{url} offers several models: {', '.join(names[:8])}.", "Name one with --model.")
    return names[0]


def checked_url(url: str) -> str:
    """Return an address before `/chat/completions`: `/v1` is added where there is no path; raises `ConfigError`."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url!r} is no address of a server.", "Write it as http://127.0.0.1:8000.")
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


async def count(responder: Responder, expected: Sequence[Expected]) -> list[Counted]:
    """Ask for one token after each conversation and return how many prompt tokens the server counts."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(each: Expected) -> Counted:
        async with slots:
            return await _count(responder, each)

    return list(await asyncio.gather(*(one(each) for each in expected)))


async def _count(responder: Responder, expected: Expected) -> Counted:
    example = expected.ask.example
    request = Request(example.id, example.prompt, sampling=Sampling(max_tokens=1), tools=tuple(example.tools))
    return await ask_once(responder, request)


async def ask_once(responder: Responder, request: Request) -> Counted:
    """Ask, and return how many prompt tokens were counted or why the request was refused."""
    found = None
    try:
        async with aclosing(responder(request)) as chunks:
            async for chunk in chunks:
                found = chunk.usage or found
    except RequestError as error:
        return Counted(refused=_said(error.message))
    return Counted(None if found is None else found.prompt_tokens)


def count_findings(
    hop: str, expected: Sequence[Expected], counted: Sequence[Counted], suspects: Sequence[Suspect]
) -> list[Finding]:
    """Return whether a server counts as many prompt tokens as the trainer reads, and what is likely where it does not.

    What the server refuses is told; it differs only where the trainer learned it.
    """
    pairs = list(zip(expected, counted, strict=True))
    findings = [refusals(hop, expected, counted)]
    told = [(each, found) for each, found in pairs if not found.refused and not each.rendering.refused]
    known = [(each, found.prompt_tokens) for each, found in told if found.prompt_tokens is not None]
    if told and not known:
        hint = "Let the server tell `usage`, or nothing can be said of what it reads."
        findings.append(Finding(hop, "prompt tokens", False, cause=WORDS["unknown"], hint=hint, of=len(told)))
        return findings
    gaps = [(each, number - len(each.rendering.ids)) for each, number in known]
    wrong = [(each, gap) for each, gap in gaps if gap]
    if not wrong:
        findings.append(Finding(hop, "prompt tokens", True, found="as many as the trainer reads", of=len(known)))
        return findings
    cause = _cause(gaps, suspects)
    each, gap = wrong[0]
    length = len(each.rendering.ids)
    findings.append(
        Finding(
            hop,
            "prompt tokens",
            False,
            cause=cause,
            hint=difference.HINTS.get(cause, _HINT),
            differing=len(wrong),
            of=len(gaps),
            place=Place(each.ask.name, 0, f"{length} tokens", f"{length + gap} tokens"),
        )
    )
    return findings


def suspects_of(
    generation_prompt_tokens: int, default_system_tokens: int, system_tokens: int, *, has_bos: bool
) -> list[Suspect]:
    """Return the causes that change every conversation by a known number of tokens."""
    found = []
    if generation_prompt_tokens:
        found.append(Suspect(difference.NO_GENERATION_PROMPT, -generation_prompt_tokens))
    for tokens in {default_system_tokens, system_tokens} - {0}:
        found.append(Suspect(difference.SYSTEM_LOST, -tokens, system=False))
        found.append(Suspect(difference.SYSTEM_ADDED, tokens, system=False))
    found.append(Suspect(difference.DOUBLED_BOS if has_bos else difference.ADDED_BOS, 1))
    found.append(Suspect(difference.LOST_BOS, -1))
    return found


def refusals(hop: str, expected: Sequence[Expected], counted: Sequence[Counted]) -> Finding:
    """Return what a server refuses: a finding only where it is the project's own and was learned."""
    pairs = list(zip(expected, counted, strict=True))
    learned = [(each, found) for each, found in pairs if each.answer_ids and found.refused]
    own = [(each, found) for each, found in learned if each.ask.example.source or each.ask.example.content_hash]
    refused = sum(bool(found.refused) for _, found in pairs)
    if own:
        each, found = own[0]
        place = Place(each.ask.name, 0, "an answer", found.refused)
        return Finding(
            hop, "requests", False, cause="refuses conversations that were learned", hint=difference.HINTS[
                difference.REFUSED], differing=len(own), of=len(pairs), place=place,
        )  # fmt: skip
    said = Counter(found.refused for _, found in pairs if found.refused).most_common(1)
    told = f"; {refused} refused ({said[0][0]})" if said else ""
    return Finding(hop, "requests", True, found=f"{len(pairs) - refused} answered{told}", of=len(pairs))


def _cause(gaps: Sequence[tuple[Expected, int]], suspects: Sequence[Suspect]) -> str:
    """Return the first suspect that explains every conversation, else what is left to say."""
    for suspect in suspects:
        if all(gap == _explained(suspect, each) for each, gap in gaps):
            return suspect.cause
    sizes = {gap for _, gap in gaps}
    if len(sizes) == 1:
        (gap,) = sizes
        if gap == 1:
            return difference.ADDED_BOS
        return f"{abs(gap)} tokens {'more' if gap > 0 else 'fewer'} in every conversation"
    bare = {gap for each, gap in gaps if not _has_system(each.ask.example.messages)}
    rest = {gap for each, gap in gaps if _has_system(each.ask.example.messages)}
    if rest <= {0} and len(bare) == 1:
        return difference.SYSTEM_ADDED if next(iter(bare)) > 0 else difference.SYSTEM_LOST
    return WORDS["other"]


def _explained(suspect: Suspect, expected: Expected) -> int:
    if suspect.system is not None and suspect.system != _has_system(expected.ask.example.messages):
        return 0
    return suspect.tokens


def _has_system(messages: Sequence[Message]) -> bool:
    return any(message.role in ("system", "developer") for message in messages)


def _said(message: str) -> str:
    """Return what the server said of a refusal, without how a provider's settings could avoid it."""
    said = re.sub(r"^The provider \S+ refuses the request \(([^)]*)\): ", r"\1: ", message)
    said = re.sub(r" fields = \{.*$", "", said)
    return re.sub(r"^HTTP (\d+) from \S+: ", r"HTTP \1: ", said)


def _key(reference: str) -> str:
    import os

    name = reference.removeprefix("env:")
    value: Any = os.environ.get(name) if reference.startswith("env:") else None
    if not value:
        raise ConfigError(f"--key {reference!r} names no environment variable that is set.", "Write it as env:NAME.")
    return str(value)
