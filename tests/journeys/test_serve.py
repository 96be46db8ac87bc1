"""A served release answers the official client, many at once, and notices who leaves."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.journeys.shop import ENVIRONMENT, make_project, vivace

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "Where is my order?"}]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = make_project(tmp_path_factory.mktemp("served") / "shop", tiny_model, bench__baseline="false")
    vivace("run", str(folder))
    return folder


@pytest.fixture
def served(project: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of `vivace serve` on a free port, and its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vivace", "serve", str(project)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stderr is not None
    url = ""
    for line in process.stderr:
        if "Serving" in line:
            url = line.split(" at ")[1].split("/v1")[0]
            break
    assert url, "the server did not start"
    yield url, process
    process.kill()
    process.wait()


def test_the_official_client_is_answered_whole_and_in_pieces(served: tuple[str, subprocess.Popen[str]]) -> None:
    client = openai.OpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["shop"]
    whole = client.chat.completions.create(model="shop", messages=QUESTION, max_tokens=12)  # type: ignore[call-overload]
    assert whole.usage.completion_tokens <= 12
    assert whole.choices[0].finish_reason in ("stop", "length")
    stream = client.chat.completions.create(  # type: ignore[call-overload]
        model="shop", messages=QUESTION, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    pieces, usage = [], None
    for chunk in stream:
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        usage = chunk.usage or usage
    assert "".join(pieces) == whole.choices[0].message.content
    assert usage == whole.usage
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-none", messages=QUESTION)  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="shop", messages=QUESTION, temperature=9)  # type: ignore[call-overload]


def test_the_example_of_the_serve_page_runs(served: tuple[str, subprocess.Popen[str]]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    assert '"chatbot"' in code
    code = code.replace("http://127.0.0.1:8000", served[0]).replace('"chatbot"', '"shop"')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_eight_at_once_are_answered_as_one_is(served: tuple[str, subprocess.Popen[str]]) -> None:
    client = openai.AsyncOpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0)

    async def ask(number: int) -> str:
        messages = [{"role": "user", "content": f"Where is order {number}?"}]
        done = await client.chat.completions.create(model="shop", messages=messages, max_tokens=16)  # type: ignore[call-overload]
        return str(done.choices[0].message.content)

    async def all_ways() -> tuple[list[str], list[str]]:
        single = [await ask(number) for number in range(8)]
        return single, list(await asyncio.gather(*(ask(number) for number in range(8))))

    single, together = asyncio.run(all_ways())
    assert single == together


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot_within_a_second(
    served: tuple[str, subprocess.Popen[str]], stream: bool
) -> None:
    url = served[0]
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"model": "shop", "messages": QUESTION, "max_tokens": 400, "stream": stream, "n": 1}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for_active(url, at_least=1)
    left = time.monotonic()
    wait_for_active(url, at_most=0)
    assert time.monotonic() - left < 1.0


def test_a_termination_lets_the_running_answer_finish(served: tuple[str, subprocess.Popen[str]]) -> None:
    url, process = served
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(model="shop", messages=QUESTION, max_tokens=200, stream=True)  # type: ignore[call-overload]
    chunks = iter(stream)
    next(chunks)
    process.send_signal(signal.SIGTERM)
    last = None
    for chunk in chunks:
        last = chunk.choices[0].finish_reason if chunk.choices else last
    assert last in ("stop", "length")
    assert process.wait(timeout=15) == 0


def test_serving_needs_no_training_library(project: Path) -> None:
    code = (
        "import sys\n"
        "import vivace.loop.serving, vivace.serve.run, vivace.loop.releases, vivace.engines.process, vivace.chain\n"
        "from vivace.loop.releases import find_release\n"
        "from pathlib import Path\n"
        "find_release(Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'transformers', 'polars', 'scipy', 'trl', 'nncf'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(project)], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def wait_for_active(url: str, *, at_least: int = 0, at_most: int = 10**9) -> None:
    """Return once /health tells a number of requests in work within the bounds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/health") as answer:
            active = json.load(answer)["active"]
        if at_least <= active <= at_most:
            return
        time.sleep(0.01)
    raise AssertionError(f"{active} requests in work, wanted {at_least} to {at_most}")
