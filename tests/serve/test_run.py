"""The whole server in a process of its own, with the real echo engine."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

PROGRAM = """
import sys
from pathlib import Path

import uvloop

from vivace.config.settings import ServeSettings
from vivace.domain import Candidate, Model
from vivace.errors import VivaceError
from vivace.serve import run_server

candidate = Candidate("echo", "echo", Model("echo", Path(sys.argv[1]), "echo", "none"))
settings = ServeSettings.model_validate_json(sys.argv[2])
try:
    uvloop.run(run_server(candidate, settings, model_name="echo", release_id="r1",
                          on_ready=lambda url: print(url, flush=True)))
except VivaceError as error:
    sys.exit(f"{error.exit_code}: {error}")
print("heavy:", *(name for name in ("torch", "transformers", "polars", "scipy") if name in sys.modules))
"""


def start(model: Path, settings: str, **variables: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VIVACE_")}
    command = [sys.executable, "-c", PROGRAM, str(model), settings]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment | variables
    )


@pytest.fixture
def server(tiny_model: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tiny_model, '{"port": 0}')
    yield process
    process.kill()
    process.communicate()


def client_of(server: subprocess.Popen[str], key: str = "none") -> openai.OpenAI:
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:"), server.communicate(timeout=20)
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20)


def test_it_answers_and_ends_with_status_0_on_sigterm_without_cutting_a_stream(server: subprocess.Popen[str]) -> None:
    with client_of(server) as client:
        ask = [{"role": "user", "content": " ".join(f"word{number}" for number in range(40))}]
        whole = client.chat.completions.create(model="echo", messages=ask, max_tokens=30)
        assert whole.choices[0].message.content
        assert whole.usage is not None
        assert whole.usage.completion_tokens <= 30
        stream = client.chat.completions.create(model="echo", messages=ask, max_tokens=30, stream=True)
        chunks = [next(stream)]
        server.send_signal(signal.SIGTERM)
        chunks += list(stream)
        assert chunks[-1].choices[0].finish_reason is not None
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == whole.choices[0].message.content
    output, errors = server.communicate(timeout=20)
    assert (server.returncode, output.strip(), errors) == (0, "heavy:", "")


def test_keys_come_from_the_environment_and_are_told_to_nobody(tiny_model: Path) -> None:
    settings = '{"port": 0, "api_keys": ["env:VIVACE_TEST_KEY"]}'
    process = start(tiny_model, settings, VIVACE_TEST_KEY="sesame-0123456789")
    try:
        with client_of(process, "sesame-0123456789") as client:
            assert client.models.list().data[0].id == "echo"
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="sesame").models.list()
    finally:
        process.terminate()
        output, errors = process.communicate(timeout=20)
    assert "sesame" not in output + errors
    refused = start(tiny_model, settings)
    assert "VIVACE_TEST_KEY" in refused.communicate(timeout=20)[1]
    assert refused.returncode == 1


def test_it_does_not_start_in_the_open_without_keys(tiny_model: Path) -> None:
    process = start(tiny_model, '{"host": "0.0.0.0", "port": 0}')
    output, errors = process.communicate(timeout=20)
    assert output == ""
    assert errors.startswith("2: serve.host is '0.0.0.0'")
    assert "Traceback" not in errors
