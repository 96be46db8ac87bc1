"""The routes besides chat."""

import subprocess
import sys

import openai
import pytest

from tests.serve.fakes import MODEL, ScriptedEngine, app_of, serving
from vivace.config.settings import ServeSettings
from vivace.errors import ConfigError
from vivace.serve.app import create_app


def test_the_official_client_lists_and_finds_the_model() -> None:
    with serving(app_of(ScriptedEngine())) as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0)
        (model,) = client.models.list().data
        assert (model.id, model.object, model.owned_by) == (MODEL, "model", "vivace")
        assert client.models.retrieve(MODEL) == model
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("gpt-4")
        assert caught.value.code == "model_not_found"
        client.close()


def test_health_is_200_while_the_engine_lives_and_503_after() -> None:
    engine = ScriptedEngine()
    with serving(app_of(engine)) as served:
        status, facts, _ = served.request("GET", "/health")
        assert (status, facts) == (
            200,
            {"status": "ok", "model": MODEL, "release": "rel-1", "engine": "scripted", "active": 0},
        )
        status, answer, headers = served.chat(messages=[{"role": "user", "content": "die"}])
        assert (status, answer["error"]["code"]) == (503, "engine_died")
        assert "retry-after" in headers
        assert served.request("GET", "/health")[0] == 503


def test_an_app_that_others_could_reach_without_a_key_is_not_made() -> None:
    engine = ScriptedEngine()
    with pytest.raises(ConfigError):
        create_app(engine, engine, ServeSettings(host="0.0.0.0"), model_name="m", release_id="r")


def test_serving_imports_no_heavy_library() -> None:
    program = "import sys, vivace.serve; print(*(n for n in sys.argv[1:] if n in sys.modules))"
    heavy = ["torch", "transformers", "polars", "scipy", "numpy", "openvino", "httpx", "pandas", "sklearn"]
    done = subprocess.run([sys.executable, "-c", program, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
