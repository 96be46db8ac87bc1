"""What can answer here is listed with what it can do; what cannot, with the command that brings it."""

import os
import sys
from pathlib import Path

import pytest

from vivace.domain import SilentProgress
from vivace.engines import ENGINES
from vivace.engines.openvino import OpenVinoBackend
from vivace.loop import engines
from vivace.loop.engines import engine_row, list_engines, server_rows
from vivace.loop.tiny import tiny_model
from vivace.models import ChatTokenizer, describe


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def program(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{sys.executable} -S\n{code}\n")
    (folder / name).chmod(0o755)
    if str(folder) not in os.environ["PATH"]:
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_every_engine_has_a_row_that_says_what_it_opens_and_can_do() -> None:
    rows = {name: engine_row(name) for name in ENGINES.names()}
    assert rows["openvino"].exports == ("openvino-int8", "openvino-int4", "openvino-fp16")
    assert rows["openvino"].traits.prefix_cache
    assert rows["transformers"].adapters
    assert not rows["echo"].adapters
    assert rows["onnxruntime"].traits.batching == "turns"
    assert all(row.works and row.version for name, row in rows.items() if name != "echo")


def test_an_engine_whose_library_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenVinoBackend, "libraries", ("openvino", "no_such_library"))
    row = engine_row("openvino")
    assert (row.works, row.missing, row.get) == (False, "no_such_library", 'pip install "vivace[loop]"')
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert engine_row("openvino").get == 'pip install "vivace[loop]"'


def test_servers_say_what_is_missing_and_a_program_with_a_gpu_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    (bare,) = [row for row in server_rows() if row.name == "vllm"]
    assert not bare.works
    assert bare.detail == "no vllm; no docker or podman; no GPU"
    assert "pip install vllm" in bare.get
    program(tmp_path / "bin", "vllm", "", monkeypatch)
    (blind,) = [row for row in server_rows() if row.name == "vllm"]
    assert (blind.works, blind.detail, blind.get) == (False, "vllm; no GPU", engines.NEEDS_GPU)
    program(tmp_path / "bin", "nvidia-smi", "print('GPU 0: NVIDIA T4 (UUID: GPU-1)')", monkeypatch)
    (ready,) = [row for row in server_rows() if row.name == "vllm"]
    assert (ready.works, ready.detail, ready.get) == (True, "vllm; GPU 0: NVIDIA T4", "")


def test_a_container_runtime_whose_service_does_not_run_is_no_way_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    program(tmp_path / "bin", "nvidia-smi", "print('GPU 0: NVIDIA T4')", monkeypatch)
    program(tmp_path / "bin", "docker", "import sys; sys.exit('Cannot connect to the daemon')", monkeypatch)
    (row,) = [row for row in server_rows() if row.name == "tgi"]
    assert not row.works
    assert "docker: Cannot connect to the daemon" in row.detail
    program(tmp_path / "bin", "docker", "", monkeypatch)
    (row,) = [row for row in server_rows() if row.name == "tgi"]
    assert row.works
    assert "a container through docker" in row.detail


def test_providers_are_listed_and_asked_only_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text(
        '[models.providers.gpt]\nmodel = "m"\napi_key = "env:NO_SUCH_KEY"\n'
        '[models.providers.ours]\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\nmax_retries = 0\n'
    )
    rows = {row.name: row for row in list_engines(tmp_path, SilentProgress()).providers}
    assert not rows["gpt"].ready
    assert "NO_SUCH_KEY is not set" in rows["gpt"].detail
    assert rows["ours"].ready
    assert rows["ours"].tried is None
    asked = {row.name: row for row in list_engines(tmp_path, SilentProgress(), ask_providers=True).providers}
    assert asked["gpt"].tried is None
    assert asked["ours"].tried is not None
    assert "127.0.0.1:9" in asked["ours"].tried.error


def test_a_project_file_that_is_broken_is_said(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("[train]\nmax_token = 1\n")
    assert "max_token" in list_engines(tmp_path, SilentProgress()).note


@pytest.mark.slow
def test_each_engine_that_works_answers_with_a_tiny_model_where_there_is_no_project(tmp_path: Path) -> None:
    rows = {row.name: row for row in list_engines(tmp_path, SilentProgress(), check=True).engines}
    for name, row in rows.items():
        assert row.tried is not None
        assert row.tried.error == "", name
        assert row.tried.tokens == engines.CHECK_TOKENS
        assert row.tried.model == ("no model" if name == "echo" else "a tiny model without sense")
        assert 0 < row.tried.first_token_ms / 1e3 <= row.tried.seconds


def test_the_tiny_model_is_whole_and_small(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "tiny")
    found = describe(folder)
    assert found.size_bytes < 1_000_000
    tokenizer = ChatTokenizer.open(folder)
    text = "Hällo the 👋"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert max(tokenizer.encode(text)) < tokenizer.vocab_size
