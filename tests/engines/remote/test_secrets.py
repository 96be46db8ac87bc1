"""Keys reach the provider and nobody else: no file, no error, no log, no repr, no other host."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.engines.asking import collect, outcome
from tests.engines.remote import provider as acts
from tests.engines.remote.asking import request, said, settings, story
from tests.engines.remote.provider import Provider
from vivace.config.providers import ProviderSettings, is_loopback
from vivace.domain import Model
from vivace.engines.remote import RemoteEngine, open_remote, provider_candidate, read_provider
from vivace.errors import ConfigError, EngineError, ModelError

KEY = "sk-proj-THEKEY0123456789"
TENANT = "tenant-SECRET-42"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_KEY", KEY)
    monkeypatch.setenv("TENANT", TENANT)


WITH = {"api_key": "env:GPT_KEY", "headers": {"x-tenant-token": "env:TENANT", "x-team": "blue"}}


def test_key_and_headers_reach_the_provider(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> dict[str, str]:
        await collect(engine, request())
        return server.seen[0].headers

    headers = story(tmp_path, [acts.fine], tell, **WITH)
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-tenant-token"] == TENANT
    assert headers["x-team"] == "blue"


async def _repeats_all(exchange: acts.Exchange) -> None:
    """Put every header into the error, as careless gateways do."""
    await exchange.whole({"error": {"message": f"bad: {json.dumps(exchange.seen.headers)}"}}, exchange.provider.status)  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 422, 429, 500])
def test_no_error_holds_a_secret_even_if_the_server_repeats_it(
    tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def tell(engine: RemoteEngine, server: Provider) -> str:
        server.status = status  # type: ignore[attr-defined]
        error = await outcome(collect(engine, request()))
        return said(error) + repr(engine) + repr(engine.facts) + repr(vars(engine)) + repr(vars(engine._wire))

    told = story(tmp_path, [_repeats_all], tell, **WITH | {"max_retries": 0})
    assert "provider gpt" in told
    for secret in (KEY, TENANT):
        assert secret not in told
        assert secret not in caplog.text


@pytest.mark.parametrize("act", [acts.drops, acts.speaks_no_http, acts.lies_about_its_length, acts.hangs])
def test_no_breakdown_holds_a_secret(tmp_path: Path, act: acts.Act) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> str:
        return said(await outcome(collect(engine, request())))

    told = story(tmp_path, [act], tell, **WITH | {"max_retries": 0, "timeouts": {"first_token_s": 0.2}})
    assert "provider gpt" in told
    assert KEY not in told
    assert TENANT not in told


def test_the_folder_of_a_provider_holds_references_only(tmp_path: Path) -> None:
    wanted = settings(base_url="https://model.example/v1", **WITH)
    candidate = provider_candidate("gpt", wanted, tmp_path / "gpt", chain={"system": "Be brief."})
    text = "".join(path.read_text() for path in (tmp_path / "gpt").rglob("*") if path.is_file())
    assert "env:GPT_KEY" in text
    assert KEY not in text
    assert TENANT not in text
    assert read_provider(candidate.model.path) == wanted
    assert (candidate.engine, candidate.model.format, candidate.chain) == ("openai", "remote", {"system": "Be brief."})


def test_the_same_settings_are_the_same_folder(tmp_path: Path) -> None:
    wanted = settings(base_url="https://model.example/v1")
    for folder in ("one", "two", "one"):
        provider_candidate("gpt", wanted, tmp_path / folder)
    one, two = ((tmp_path / name / "provider.json").read_bytes() for name in ("one", "two"))
    assert one == two
    provider_candidate("gpt", settings(base_url="https://other.example/v1"), tmp_path / "one")
    assert (tmp_path / "one" / "provider.json").read_bytes() != two


def test_a_refused_key_is_named_by_its_variable(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> str:
        return str(await outcome(collect(engine, request())))

    refuses = acts.answers({"error": {"message": "Incorrect API key provided: sk-proj-****6789"}}, 401)
    told = story(tmp_path, [refuses], tell, api_key="env:GPT_KEY")
    assert "environment variable GPT_KEY" in told
    assert "6789" not in told
    assert 'api_key = "env:NAME"' in story(tmp_path, [refuses], tell)


async def _open(folder: Path, **given: Any) -> None:
    candidate = provider_candidate("gpt", settings(**{"base_url": "https://model.example/v1"} | given), folder / "gpt")
    async with open_remote(candidate.engine, candidate.model):
        pass


async def _opening(folder: Path, **given: Any) -> BaseException:
    return await outcome(_open(folder, **given))


def test_a_key_that_is_missing_or_mangled_is_named_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    missing = asyncio.run(_opening(tmp_path, api_key="env:NO_SUCH_KEY"))
    assert isinstance(missing, ConfigError)
    assert "NO_SUCH_KEY" in str(missing)
    for mangled in ("sk-“quoted”", "sk-two\nlines"):
        monkeypatch.setenv("GPT_KEY", mangled)
        error = asyncio.run(_opening(tmp_path, api_key="env:GPT_KEY"))
        assert isinstance(error, ConfigError)
        assert "GPT_KEY" in str(error)
        assert mangled not in said(error)
    monkeypatch.setenv("GPT_KEY", f"{KEY}\n")  # what `cat key.txt` leaves
    asyncio.run(_open(tmp_path, api_key="env:GPT_KEY"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"api_key": KEY}, "write api_key as env:NAME"),
        ({"headers": {"Authorization": f"Bearer {KEY}"}}, "write the header Authorization as env:NAME"),
        ({"headers": {"x-a\r\nb": "c"}}, "cannot be sent"),
        ({"headers": {"x-a": "b\r\nc: d"}}, "cannot be sent"),
        ({"base_url": "https://ann:pass@model.example/v1"}, "name or password"),
        ({"base_url": "model.example/v1"}, "must begin with https://"),
        ({"base_url": "https://model.example/v1/chat/completions"}, "which Vivace adds"),
        ({"base_url": "https://model.example/v1?api-version=1"}, "api_version"),
        ({"base_url": "http://model.example/v1", "api_key": "env:GPT_KEY"}, "unencrypted"),
        ({"base_url": "http://model.example/v1", "headers": {"x-a": "env:TENANT"}}, "unencrypted"),
        ({"extra": {"messages": []}}, "messages cannot be set"),
        ({"likelihood": True}, "likelihood needs"),
        ({"price_per_million_input_tokens": 1.0}, "both prices"),
    ],
)
def test_settings_that_would_leak_or_cannot_be_are_refused_without_repeating_a_secret(
    given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    (error,) = caught.value.errors(include_url=False)
    assert words in error["msg"]
    assert KEY not in error["msg"]
    assert isinstance(error["input"], dict)  # the reader of vivace.toml quotes single values, not tables


def test_plain_http_is_allowed_here_and_where_it_is_asked_for() -> None:
    for given in (
        {"base_url": "http://localhost:8000/v1", "api_key": "env:GPT_KEY"},
        {"base_url": "http://[::1]:8000/v1", "api_key": "env:GPT_KEY"},
        {"base_url": "http://model.example/v1"},
        {"base_url": "http://model.example/v1", "api_key": "env:GPT_KEY", "allow_plain_http": True},
    ):
        assert settings(**given).url == given["base_url"]
    assert is_loopback("127.8.8.8")
    assert not is_loopback("127.0.0.1.example.org")


def test_a_folder_that_is_no_provider_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no provider\.json"):
        read_provider(tmp_path)
    (tmp_path / "provider.json").write_text(json.dumps({"model": "m", "api_key": KEY}))
    with pytest.raises(ModelError, match="env:NAME") as caught:
        read_provider(tmp_path)
    assert KEY not in said(caught.value)


def test_an_engine_of_the_other_protocol_is_refused(tmp_path: Path) -> None:
    import asyncio

    async def run() -> BaseException:
        model: Model = provider_candidate("gpt", ProviderSettings(model="m"), tmp_path / "gpt").model
        return await outcome(open_remote("anthropic", model).__aenter__())

    error = asyncio.run(run())
    assert isinstance(error, EngineError)
    assert "speaks 'openai'" in str(error)


def test_what_answers_cost_is_added_up_where_prices_are_known(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> dict[str, Any]:
        await collect(engine, request())
        await collect(engine, request())
        return engine.facts

    prices = {"price_per_million_input_tokens": 2.0, "price_per_million_output_tokens": 10.0}
    facts = story(tmp_path, [acts.fine], tell, **prices)
    assert facts["cost_usd"] == pytest.approx(2 * (11 * 2 + 4 * 10) / 1e6)
    assert facts["requests"] == facts["attempts"] == 2
    assert "cost_usd" not in story(tmp_path, [acts.fine], tell)
