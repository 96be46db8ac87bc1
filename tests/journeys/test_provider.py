"""A provider stands beside the tuned model, wins, is released, and is served to the official client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from tests.engines.remote.provider import openai_events, serving, streams
from tests.journeys.shop import ENVIRONMENT
from tests.loop.tasks import ANSWERS, make_tasks

pytestmark = pytest.mark.slow
SECRET = "sk-nobody-may-see-4711"
PROVIDER = """
[models.providers.cloud]
base_url = "{url}"
model = "gpt-4o"
api_key = "env:SHOP_KEY"
candidate = true
max_retries = 0
"""
QUESTION = [{"role": "user", "content": "old badgul kefen?"}]
KNOWING = {**ENVIRONMENT, "SHOP_KEY": SECRET}


@contextmanager
def served(shop: Path) -> Iterator[openai.OpenAI]:
    """Run `vivace serve` and yield a client of it that never asks twice."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vivace", "serve", str(shop), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=KNOWING,
    )
    try:
        assert process.stderr is not None
        ready = next(line for line in process.stderr if "Serving" in line)
        yield openai.OpenAI(base_url=ready.split(" at ")[1].split()[0], api_key="none", max_retries=0)
    finally:
        process.terminate()
        process.wait(20)


def test_the_provider_that_answers_best_is_released_and_served_and_its_key_is_in_no_file(
    tmp_path: Path, tiny_model: Path
) -> None:
    shop = make_tasks(tmp_path / "shop", tiny_model, learning_rate=1e-8)
    words = tuple(f"{word} " for word in ANSWERS["old"].split())
    with serving(streams(openai_events(words))) as url:
        with (shop / "vivace.toml").open("a") as config:
            config.write(PROVIDER.format(url=url))
        done = subprocess.run(
            [sys.executable, "-m", "vivace", "run", str(shop), "--json", "--set", "release.max_degradation=0.05"],
            capture_output=True,
            text=True,
            env=KNOWING,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert {card["candidate"]["name"] for card in told["scorecards"]} == {"base", "tuned-openvino-int8", "cloud"}
        assert told["release"]["facts"]["candidate"] == "cloud"
        with served(shop) as client:
            whole = client.chat.completions.create(model="shop", messages=QUESTION)  # type: ignore[call-overload]
            assert whole.choices[0].message.content == "".join(words)
            assert whole.usage.completion_tokens > 0
            stream = client.chat.completions.create(  # type: ignore[call-overload]
                model="shop", messages=QUESTION, stream=True
            )
            assert [choice.delta.content for chunk in stream for choice in chunk.choices if choice.delta.content]
    with served(shop) as client, pytest.raises(openai.InternalServerError) as down:  # the provider is gone
        client.chat.completions.create(model="shop", messages=QUESTION)  # type: ignore[call-overload]
    assert (down.value.status_code, down.value.code) == (503, "provider_unavailable")
    assert int(down.value.response.headers["retry-after"]) >= 1
    assert "127.0.0.1" not in str(down.value)
    files = [path for path in shop.rglob("*") if path.is_file()]
    assert any(path.name == "provider.json" for path in files)
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
