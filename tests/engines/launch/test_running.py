"""A server is waited for, its end is one sentence, and nothing of it is left behind; then it is a provider."""

import asyncio
import os
import signal
import socket
import tomllib
from pathlib import Path

import psutil
import pytest

from tests.engines.asking import ask, outcome
from tests.engines.remote.asking import QUICK, opened
from vivace.config.providers import ProviderSettings
from vivace.domain import Model, SilentProgress
from vivace.engines.launch import Launch, Running, Wishes, free_port, launch, plan, stop
from vivace.engines.launch.running import healthy, remember, remembered, served_models, wait_for_end
from vivace.errors import ConfigError, EngineError, ProviderUnavailable, RequestError
from vivace.loop.launching import provider_table
from vivace.models import identify

pytestmark = pytest.mark.slow
BAR = SilentProgress().task("").__enter__()


@pytest.fixture
def tiny(tiny_model: Path) -> Model:
    return identify(tiny_model)


def made(server: str, model: Model, **wishes: object) -> Launch:
    return plan(server, model, Wishes("shop", port=free_port("127.0.0.1", 0), **wishes))  # type: ignore[arg-type]


def begin(wanted: Launch, folder: Path, started: list[Running], **more: float) -> Running:
    running = launch(wanted, folder / "log.txt", BAR, **more)  # type: ignore[arg-type]
    started.append(running)
    return running


def settings(wanted: Launch) -> ProviderSettings:
    (table,) = tomllib.loads(provider_table(wanted))["models"]["providers"].values()
    return ProviderSettings.model_validate(table | {"timeouts": QUICK, "max_retries": 0})


def test_vllm_that_starts_slowly_is_waited_for_and_is_a_provider_from_the_printed_table(
    programs: Path, tiny: Model, tmp_path: Path, started: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "slow")
    monkeypatch.setenv("SHOP_KEY", "not-told")
    wanted = made("vllm", tiny, key_env="SHOP_KEY")
    running = begin(wanted, tmp_path, started)
    assert "not-told" not in " ".join(psutil.Process(running.pid).cmdline())
    assert served_models(running.url, "not-told") == ["shop"]
    assert served_models(running.url) == []

    async def story() -> None:
        async with opened(tmp_path, settings(wanted)) as remote:
            text, last = await ask(remote, "Good day", max_tokens=8)
            assert (text, last.finish_reason) == ("Good morning, Zoë 🙂.", "stop")
            assert last.usage is not None
            assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (12, 4)
            assert await remote.token_logprobs((1, 2), (3, 4)) == [-1.5, -1.5]  # type: ignore[attr-defined]
            long = await outcome(ask(remote, "word " * 900, max_tokens=200))
            assert isinstance(long, RequestError)
            assert long.code == "context_length_exceeded"
        async with opened(tmp_path, settings(wanted).model_copy(update={"stream": False})) as remote:
            assert (await ask(remote, "Good day", max_tokens=8))[0] == "Good morning, Zoë 🙂."

    asyncio.run(story())
    assert stop(running)
    assert not running.alive
    assert not healthy(running.url)
    assert not stop(running)


def test_tgi_is_a_provider_with_its_own_errors_and_ends(
    programs: Path, tiny: Model, tmp_path: Path, started: list[Running]
) -> None:
    wanted = made("tgi", tiny)
    begin(wanted, tmp_path, started)

    async def story() -> None:
        for stream in (True, False):
            async with opened(tmp_path, settings(wanted).model_copy(update={"stream": stream})) as remote:
                text, last = await ask(remote, "Good day", max_tokens=8)
                assert (text, last.finish_reason) == ("Good morning, Zoë 🙂.", "stop")
                assert last.usage is not None
                assert last.usage.completion_tokens == 4
                long = await outcome(ask(remote, "word " * 900, max_tokens=200))
                assert isinstance(long, RequestError)
                assert long.code == "context_length_exceeded"
                assert isinstance(await outcome(ask(remote, "overload", max_tokens=8)), ProviderUnavailable)
        async with opened(tmp_path, settings(wanted)) as remote:
            broken = await outcome(ask(remote, "broken", max_tokens=8))
            assert isinstance(broken, EngineError)
            assert "CUDA OOM" in str(broken)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("dies", ["exit status 1", "model type `clay`"]),
        ("memory", ["killed by SIGABRT", "CUDA out of memory. Tried to allocate 20.00 GiB."]),
    ],
)
def test_a_server_that_dies_at_its_start_is_told_with_its_last_words(
    programs: Path, tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, words: list[str]
) -> None:
    monkeypatch.setenv("STAND_IN", mode)
    with pytest.raises(EngineError) as found:
        launch(made("vllm", tiny), tmp_path / "log.txt", BAR)
    assert all(word in str(found.value) for word in words), str(found.value)
    assert str(tmp_path / "log.txt") in found.value.hint


def test_a_server_that_never_gets_ready_is_ended_at_the_deadline(
    programs: Path, tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "stuck")
    wanted = made("vllm", tiny)
    with pytest.raises(EngineError, match=r"not ready within 1.5 s; its log ends: INFO starting vllm on shop"):
        launch(wanted, tmp_path / "log.txt", BAR, ready_s=1.5)
    with socket.create_server(("127.0.0.1", int(wanted.url.rsplit(":", 1)[1]))):
        pass  # the port is free again: nobody was left behind


def test_a_port_that_is_taken_is_named_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be listened on: Address already in use"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port


def test_a_missing_key_is_named_before_anything_starts(programs: Path, tiny: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SHOP_KEY is not set"):
        launch(made("vllm", tiny, key_env="SHOP_KEY"), tmp_path / "log.txt", BAR)
    assert not (tmp_path / "log.txt").exists()


def test_a_server_that_crashes_while_it_serves_is_noticed_with_its_reason(
    programs: Path, tiny: Model, tmp_path: Path, started: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "crashes")
    wanted = made("vllm", tiny)
    running = begin(wanted, tmp_path, started)

    async def story() -> None:
        async with opened(tmp_path, settings(wanted)) as remote:
            assert (await ask(remote, "Good day", max_tokens=8))[0]
            assert isinstance(await outcome(ask(remote, "crash", max_tokens=8)), ProviderUnavailable)

    asyncio.run(story())
    assert "CUDA error: an illegal memory access" in wait_for_end(running, every_s=0.05)


def test_a_server_that_goes_on_without_us_is_remembered_until_it_ends(
    programs: Path, tiny: Model, tmp_path: Path, started: list[Running]
) -> None:
    running = begin(made("tgi", tiny), tmp_path, started)
    note = remember(running, tmp_path / "servers")
    assert remembered(tmp_path / "servers") == {note: running}
    os.kill(running.pid, signal.SIGKILL)
    wait_for_end(running, every_s=0.05)
    assert remembered(tmp_path / "servers") == {}
    assert not note.exists()


def test_llama_cpps_own_server_is_started_on_a_gguf_export_and_is_a_provider(
    tiny_gguf: Model, tmp_path: Path, started: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "llama-key")
    wanted = made("llamacpp", tiny_gguf, key_env="SHOP_KEY", context_length=256, max_num_seqs=2, threads=1)
    running = begin(wanted, tmp_path, started)
    assert served_models(running.url, "llama-key") == ["shop"]

    async def story() -> None:
        async with opened(tmp_path, settings(wanted)) as remote:
            texts = [await ask(remote, "Good day", max_tokens=6, ignore_eos=True) for _ in range(2)]
            assert [last.usage.completion_tokens for _, last in texts if last.usage] == [6, 6]
            assert texts[0][0] == texts[1][0]  # greedy, whatever the server's own defaults are

    asyncio.run(story())
    assert stop(running)
