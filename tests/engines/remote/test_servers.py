"""Servers that we did not write for these tests: Vivace's own and llama.cpp's."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.engines.asking import ask, collect, outcome, until
from tests.engines.remote.asking import opened, request, settings
from tests.serve.fakes import MODEL, ScriptedEngine, app_of, serving
from vivace.chain import stack
from vivace.domain import Message, Model, Usage
from vivace.errors import EngineError, ProviderUnavailable, RequestError

KEY = "a-key-of-the-llama"
LLAMA = """
import sys, time
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.cpuparams.n_threads = sys.argv[1], 512, 1, 1
params.api_keys = [sys.argv[2]]
server = xllamacpp.Server(params)
print("AT", server.listening_address, flush=True)
sys.stdin.read()
"""


def test_vivaces_own_server_is_a_provider(tmp_path: Path) -> None:
    engine = ScriptedEngine()

    async def story(url: str) -> None:
        async with opened(tmp_path, settings(base_url=f"{url}/v1", model=MODEL, max_retries=0)) as remote:
            text, last = await ask(stack(remote, {"system": "Be brief."}), "hello there Zoë", max_tokens=8)
            assert text == "hello there Zoë"
            assert (last.finish_reason, last.usage) == ("stop", Usage(6, 3, 2))
            assert [message.role for message in engine.seen[0].messages] == ["system", "user"]
            assert (await ask(remote, "one two three", max_tokens=2))[1].finish_reason == "length"
            long = await outcome(ask(remote, "too-long", max_tokens=2))
            assert isinstance(long, RequestError)
            assert long.code == "context_length_exceeded"
            busy = await outcome(ask(remote, "busy", max_tokens=2))
            assert isinstance(busy, ProviderUnavailable)
            assert busy.retry_after_s == 8
            crashed = await outcome(ask(remote, "crash-midway a b c d", max_tokens=9))
            assert isinstance(crashed, EngineError)  # in the middle: this answer is lost, and said to be
            assert "stopped while it was answering" in str(crashed)
            engine.alive = True
            async with aclosing(remote(request(Message("user", "slow"), max_tokens=500))) as chunks:
                await anext(chunks)
                assert engine.active == 1
            await until(lambda: engine.active == 0, 2)

    with serving(app_of(engine)) as served:
        asyncio.run(story(served.url))


@pytest.fixture
def llama(tiny_gguf: Model) -> Iterator[str]:
    """The address of llama.cpp's server with the tiny model."""
    (file,) = tiny_gguf.path.glob("*.gguf")
    process = subprocess.Popen(
        [sys.executable, "-c", LLAMA, str(file), KEY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = next((line.split()[1] for line in process.stdout if line.startswith("AT ")), "")
        assert address, "llama.cpp's server did not start"
        yield address
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_llama_cpps_server_is_a_provider(llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_KEY", KEY)

    async def story() -> None:
        given = {"base_url": f"{llama}/v1", "api_key": "env:LLAMA_KEY", "ignore_eos": True, "max_retries": 0}
        for stream in (True, False):
            async with opened(tmp_path, settings(**given, stream=stream)) as remote:
                for _ in range(3):  # it closes its connections after each stream, whatever its headers promise
                    chunks = await collect(remote, request(max_tokens=6, ignore_eos=True))
                    assert chunks[-1].finish_reason == "length"
                    assert chunks[-1].usage is not None
                    assert chunks[-1].usage.completion_tokens == 6
                assert remote.facts["attempts"] == 3
                long = await outcome(collect(remote, request(Message("user", "word " * 2000), max_tokens=6)))
                assert isinstance(long, RequestError)
                assert long.code == "context_length_exceeded"
        monkeypatch.setenv("LLAMA_KEY", "another")
        async with opened(tmp_path, settings(**given)) as remote:
            assert "LLAMA_KEY" in str(await outcome(collect(remote, request())))

    asyncio.run(story())
