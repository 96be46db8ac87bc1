"""A release is traced back to weights that a server opens, and a started server is remembered until it is stopped."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.engines.launch.conftest import programs, started  # noqa: F401 - fixtures
from vivace.config.providers import ProviderSettings
from vivace.domain import Candidate, Model, Objective, Scorecard, SilentProgress
from vivace.engines.launch import Wishes, free_port
from vivace.errors import ConfigError, EngineError, ModelError, StoreError
from vivace.loop.launching import (
    Order,
    export_for,
    prepare,
    run_server,
    running_servers,
    servable,
    stop_server,
    until_it_ends,
)
from vivace.loop.project import open_project
from vivace.release import write_release


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shop(tmp_path: Path, tiny_model: Path) -> Path:
    """A project whose release is an OpenVINO export of a merged model; the export's files are not looked at."""
    root = tmp_path / "shop"
    root.mkdir()
    (root / "vivace.toml").write_text('[project]\nname = "shop"\n')

    def copied(source: Path) -> Any:
        def work(workspace: Any) -> dict[str, Any]:
            for path in source.iterdir():
                (workspace.out / path.name).write_bytes(path.read_bytes())
            return {"format": "openvino", "weights": "int8"}

        return work

    def exported(workspace: Any) -> dict[str, Any]:
        (workspace.out / "openvino_model.xml").write_text("<net/>")
        (workspace.out / "config.json").write_text('{"max_position_embeddings": 64}')
        return {"format": "openvino", "weights": "int8"}

    with open_project(root, SilentProgress()) as project:
        run = project.store.run
        about = {"kind": "model", "progress": SilentProgress()}
        merged = run("merge", copied(tiny_model), settings={}, parents={"adapter": "x" * 64}, **about).artifact
        export = run(
            "compress", exported, settings={"export": "openvino-int8"}, parents={"model": merged.id}, **about
        ).artifact
        model = Model("shop", export.path, "openvino", "int8", artifact_id=export.id)
        card = Scorecard(Candidate("tuned-openvino-int8", "openvino", model), 1, ())

        def release(workspace: Any) -> dict[str, Any]:
            write_release(workspace.out, "shop", card, [], Objective(), "", (export.id,))
            return {"name": "shop"}

        run("release", release, settings={}, parents={"a": export.id}, kind="release", progress=SilentProgress())
    return root


def order(root: Path, server: str, **more: Any) -> Order:
    return Order(server, start=root, wishes=Wishes("", port=free_port("127.0.0.1", 0)), **more)


def test_a_release_is_traced_back_to_the_weights_it_was_exported_from(shop: Path) -> None:
    found = servable(shop, "", "vllm")
    assert (found.name, found.model.format) == ("shop", "hf")
    assert (found.model.path / "model.safetensors").is_file()
    assert "measured with openvino int8 weights" in found.told
    with open_project(shop, SilentProgress(), lock=False) as project:
        (merged,) = project.store.artifacts("merge")
    assert found.model.artifact_id == merged.id


def test_what_was_never_exported_is_said_with_the_command_that_makes_it(shop: Path) -> None:
    with pytest.raises(ModelError, match="not exported as gguf-q4_k_m") as found:
        servable(shop, "", "llamacpp")
    assert "vivace compress" in found.value.hint
    with pytest.raises(ModelError, match="not exported as compressed-w4a16"):
        servable(shop, "", "vllm", "compressed-w4a16")


def test_a_release_folder_alone_has_no_lineage_and_a_model_folder_needs_none(shop: Path, tiny_model: Path) -> None:
    with open_project(shop, SilentProgress(), lock=False) as project:
        (release,) = project.store.artifacts("release")
    elsewhere = shop.parent / "alone"
    with pytest.raises(ModelError, match="the model they were made from is not in the release"):
        servable(elsewhere, str(release.path), "vllm")
    assert servable(elsewhere, str(tiny_model), "vllm").model.path == tiny_model
    with pytest.raises(ModelError, match="There is no folder"):
        servable(shop, str(shop / "nowhere"), "vllm")


@pytest.mark.slow
def test_an_export_for_vllm_is_collected_and_checked(shop: Path) -> None:
    _found, checked = export_for("vllm", shop, "", shop / "out")
    assert checked.architecture == "LlamaForCausalLM"
    assert (shop / "out" / "chat_template.jinja").is_file()
    assert servable(shop, str(shop / "out"), "vllm").name


def test_the_printed_table_is_one_that_the_project_takes(shop: Path) -> None:
    for server in ("vllm", "tgi"):
        ready = prepare(order(shop, server))
        told = tomllib.loads(ready.provider)["models"]["providers"]
        (name,) = told
        assert name == f"shop-{server}"
        settings = ProviderSettings.model_validate(told[name])
        assert settings.model == "shop"
        assert settings.url == f"{ready.launch.url}/v1"


def test_vivaces_own_server_is_a_server_like_the_others(shop: Path) -> None:
    wishes = Wishes("", port=9, key_env="K", threads=1)
    ready = prepare(Order("vivace", start=shop, wishes=wishes))
    command = list(ready.launch.command)
    assert command[command.index("serve") + 1] == str(shop)
    assert command[command.index("--port") + 1] == "9"
    assert "--release" in command
    assert ready.launch.environment == {"VIVACE_SERVE__API_KEYS": '["env:K"]', "VIVACE_SERVE__THREADS": "1"}
    assert ready.launch.context_length == 64
    assert 'api_key = "env:K"' in ready.provider
    with pytest.raises(EngineError, match="no container image of Vivace"):
        prepare(Order("vivace", start=shop, container="docker", wishes=wishes))


@pytest.mark.slow
def test_a_started_server_is_listed_until_it_is_stopped(
    shop: Path,
    programs: Path,  # noqa: F811
) -> None:
    wanted = order(shop, "vllm")
    running = run_server(wanted, prepare(wanted), SilentProgress(), detach=True)
    try:
        assert running_servers() == {"vllm-shop": running}
        with pytest.raises(EngineError, match="serves shop already") as found:
            run_server(wanted, prepare(wanted), SilentProgress())
        assert "vivace engines stop vllm-shop" in found.value.hint
        with pytest.raises(StoreError, match="No server 'vlm-shop'"):
            stop_server("vlm-shop")
    finally:
        stopped = stop_server("vllm-shop")
    assert [each.pid for each in stopped] == [running.pid]
    assert not running.alive
    assert running_servers() == {}


@pytest.mark.slow
def test_a_server_in_the_foreground_ends_with_its_command(
    shop: Path,
    programs: Path,  # noqa: F811
) -> None:
    wanted = order(shop, "tgi")
    running = run_server(wanted, prepare(wanted), SilentProgress())
    with pytest.raises(KeyboardInterrupt), until_it_ends(running, SilentProgress()):
        raise KeyboardInterrupt
    assert not running.alive
    assert running_servers() == {}


def test_a_program_that_is_not_there_is_said_before_anything_else(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(shop))
    wanted = order(shop, "vllm")
    with pytest.raises(EngineError, match="There is no vllm on this machine") as found:
        run_server(wanted, prepare(wanted), SilentProgress())
    assert "pip install vllm" in found.value.hint
    boxed = order(shop, "vllm", container="podman")
    with pytest.raises(EngineError, match="there is no podman on this machine"):
        run_server(boxed, prepare(boxed), SilentProgress())


def test_a_server_nobody_knows_is_named_with_the_nearest_before_a_project_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no server 'vlm'") as refused:
        prepare(order(tmp_path, "vlm"))
    assert "vllm" in refused.value.hint
