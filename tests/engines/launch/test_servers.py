"""The commands that start servers fit the model, apply no defaults of the server, and carry no key."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from vivace.domain import Model
from vivace.engines.launch import SERVERS, Wishes, containerize, plan
from vivace.engines.launch.containers import arguments, compose_file, shell_line
from vivace.errors import ConfigError, EngineError
from vivace.models import identify


@pytest.fixture
def tiny(tiny_model: Path) -> Model:
    return identify(tiny_model)


def flag(command: tuple[str, ...] | list[str], name: str) -> str:
    return command[list(command).index(name) + 1]


def test_vllm_gets_name_context_template_and_none_of_its_own_defaults(tiny: Model) -> None:
    made = plan("vllm", tiny, Wishes("shop", port=9000, key_env="SHOP_KEY", gpus=2, max_num_seqs=64))
    assert made.command[:3] == ("vllm", "serve", str(tiny.path))
    assert flag(made.command, "--served-model-name") == "shop"
    assert flag(made.command, "--max-model-len") == "1024"
    assert flag(made.command, "--generation-config") == "vllm"
    assert flag(made.command, "--chat-template") == str(tiny.path / "chat_template.jinja")
    assert flag(made.command, "--tensor-parallel-size") == "2"
    assert "--enable-prefix-caching" in made.command
    assert not any("trust" in word for word in made.command)
    assert made.environment["VLLM_API_KEY"] == "env:SHOP_KEY"
    assert 'VLLM_API_KEY="$SHOP_KEY"' in shell_line(made.command, made.environment)


def test_packed_weights_that_vllms_fast_kernel_does_not_take_get_half(tiny: Model, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    shutil.copytree(tiny.path, folder)
    config = json.loads((folder / "config.json").read_text())
    groups = {"group_0": {"weights": {"num_bits": 4}}}
    config["quantization_config"] = {"quant_method": "compressed-tensors", "config_groups": groups}
    (folder / "config.json").write_text(json.dumps(config))
    packed = Model("tiny", folder, "hf", "int4")
    assert flag(plan("vllm", packed, Wishes("shop")).command, "--dtype") == "half"
    assert flag(plan("vllm", packed, Wishes("shop", dtype="auto")).command, "--dtype") == "auto"
    assert flag(plan("vllm", tiny, Wishes("shop")).command, "--dtype") == "auto"
    assert flag(plan("tgi", packed, Wishes("shop")).command, "--quantize") == "compressed-tensors"


def test_tgi_keeps_room_for_the_answer_and_says_so(tiny: Model) -> None:
    made = plan("tgi", tiny, Wishes("shop", context_length=800))
    assert flag(made.command, "--max-total-tokens") == "800"
    assert flag(made.command, "--max-input-tokens") == "400"
    assert "400" in made.notes[0]


def test_llama_cpp_is_told_not_to_sample_by_itself(tiny_gguf: Model) -> None:
    made = plan("llamacpp", tiny_gguf, Wishes("shop", context_length=512, max_num_seqs=3))
    assert flag(made.command, "--ctx-size") == "1536"  # llama.cpp divides it among its slots
    assert [flag(made.command, f"--{name}") for name in ("temp", "top-k", "top-p", "min-p")] == ["0", "0", "1", "0"]


def test_what_a_server_does_not_open_is_refused_in_words(tiny: Model, tiny_gguf: Model) -> None:
    with pytest.raises(EngineError, match="vLLM does not open .* a model in format 'gguf'"):
        plan("vllm", tiny_gguf, Wishes("shop"))
    with pytest.raises(ConfigError, match="no server 'vlm'.*'vllm'"):
        plan("vlm", tiny, Wishes("shop"))
    with pytest.raises(ConfigError, match="2,000 tokens is more than .* has \\(1,024\\)"):
        plan("vllm", tiny, Wishes("shop", context_length=2000))


def test_a_server_that_others_can_reach_without_a_key_is_warned_about(tiny: Model) -> None:
    open_to_all = plan("vllm", tiny, Wishes("shop", host="0.0.0.0"))
    assert any("--key-env" in note for note in open_to_all.notes)
    assert not plan("vllm", tiny, Wishes("shop", host="0.0.0.0", key_env="K")).notes


@pytest.mark.parametrize("server", ["vllm", "tgi"])
def test_a_container_sees_the_model_read_only_and_the_key_by_name(tiny: Model, server: str) -> None:
    bare = plan(server, tiny, Wishes("shop", port=9000, key_env="SHOP_KEY"))
    command = containerize(bare, tiny.path, "docker").command
    assert f"{tiny.path}:/model:ro" in command
    assert flag(command, "--publish") == "127.0.0.1:9000:8000"
    inside = command[command.index(SERVERS[server].image) + 1 :]
    assert str(tiny.path) not in " ".join(inside)
    assert flag(inside, "--port") == "8000"
    assert flag(inside, "--model" if server == "vllm" else "--model-id") == "/model"
    variable = "VLLM_API_KEY" if server == "vllm" else "API_KEY"
    assert flag(command, "--env") == variable  # its value comes from the environment, not from the line
    assert "serve" not in inside


def test_a_compose_file_is_yaml_with_the_same_command(tiny: Model) -> None:
    made = plan("vllm", tiny, Wishes("shop", key_env="SHOP_KEY"))
    told = yaml.safe_load(compose_file(made, tiny.path, gpus=1))
    (service,) = told["services"].values()
    assert service["command"] == arguments(made, tiny.path)
    assert service["environment"]["VLLM_API_KEY"] == "${SHOP_KEY:?set SHOP_KEY}"
    assert service["volumes"][0] == {"type": "bind", "source": str(tiny.path), "target": "/model", "read_only": True}
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 1


def test_a_llama_cpp_container_gets_the_file_inside(tiny_gguf: Model) -> None:
    made = plan("llamacpp", tiny_gguf, Wishes("shop"))
    command = containerize(made, tiny_gguf.path, "podman").command
    assert flag(command, "--model").startswith("/model/")
    assert flag(command, "--host") == "0.0.0.0"
    assert "--gpus" not in command


def test_a_shell_line_survives_spaces(tiny: Model, tmp_path: Path) -> None:
    folder = tmp_path / "my model's"
    shutil.copytree(tiny.path, folder)
    made = plan("vllm", Model("tiny", folder, "hf", "fp32"), Wishes("shop"))
    assert tuple(shlex.split(shell_line(made.command, {}))) == made.command
