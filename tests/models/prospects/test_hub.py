"""Of a hub's model only the metadata and config.json are asked for."""

import os
import subprocess
import sys
from pathlib import Path

from tests.models.test_fetch import Hub, hub

__all__ = ["hub"]  # the fixture


def look(endpoint: str, folder: Path, name: str) -> str:
    """Look a model up in a process of its own: the hub's client reads its settings when it is imported."""
    code = (
        "import sys; from pathlib import Path\n"
        "from vivace.models.prospects.prospect import prospect\n"
        "found = prospect(sys.argv[1], cache=Path(sys.argv[2]))\n"
        "print(found.problem or [found.architecture, found.parameters, found.context_length, found.has_template])\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": endpoint, "HF_TOKEN": ""}
    environment["HF_HOME"] = str(folder / "hf")
    command = [sys.executable, "-c", code, name, str(folder / "cache")]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


def test_a_hub_model_is_described_without_its_weights(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    endpoint, served = hub
    assert look(endpoint, tmp_path, "owner/tiny") == "['LlamaForCausalLM', 106816, 1024, True]"
    assert any("config.json" in path for path in served.asked)
    assert not any("safetensors" in path or "tokenizer" in path for path in served.asked)
    assert not (tmp_path / "cache").exists()


def test_a_model_that_the_hub_does_not_have_is_a_problem(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    told = look(hub[0], tmp_path, "owner/absent")
    assert told.startswith("owner/absent cannot be looked up on the hub: ")
    assert "Check the name" in told
