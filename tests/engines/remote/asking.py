"""Ask a provider on this machine in tests."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.engines.remote.provider import Act, Provider, provider
from vivace.config.providers import ProviderSettings
from vivace.domain import Message, Request, Sampling
from vivace.engines.remote import RemoteEngine, open_remote, save_provider

Result = TypeVar("Result")
QUICK = {"connect_s": 5.0, "first_token_s": 5.0, "between_tokens_s": 5.0, "total_s": 10.0}


def settings(**given: Any) -> ProviderSettings:
    times = QUICK | given.pop("timeouts", {})
    return ProviderSettings.model_validate({"model": "gpt-4o", "timeouts": times} | given)


@asynccontextmanager
async def opened(folder: Path, wanted: ProviderSettings, name: str = "gpt") -> AsyncGenerator[RemoteEngine, None]:
    model = save_provider(name, wanted, folder / name)
    async with open_remote(wanted.engine, model) as engine:
        yield engine


def story(
    folder: Path,
    script: list[Act],
    tell: Callable[[RemoteEngine, Provider], Awaitable[Result]],
    **given: Any,
) -> Result:
    """Run a provider and an engine on it, and let the story happen."""

    async def run() -> Result:
        async with provider(*script) as server:
            wanted = settings(**{"base_url": server.url} | given)
            async with opened(folder, wanted) as engine, asyncio.timeout(30):
                return await tell(engine, server)

    return asyncio.run(run())


def request(*turns: Message, **sampling: Any) -> Request:
    return Request("r-1", turns or (Message("user", "Good day"),), sampling=Sampling(**sampling))


def said(value: Any) -> str:
    """Return everything an exception and those behind it show."""
    shown, left = [], [value]
    while left:
        error = left.pop()
        if error is None or any(error is each for each in shown):
            continue
        shown.append(error)
        left += [error.__cause__, error.__context__]
    return " ".join(f"{each!s} {each!r} {vars(each)!r} {each.args!r}" for each in shown)
