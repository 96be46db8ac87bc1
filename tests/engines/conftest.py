"""The tiny model in the formats the engines open."""

from pathlib import Path

import pytest

from vivace.compress import export
from vivace.domain import Model, SilentProgress
from vivace.models import identify


@pytest.fixture(scope="session")
def tiny_hf(tiny_model: Path) -> Model:
    return identify(tiny_model)


@pytest.fixture(scope="session")
def tiny_openvino(tiny_hf: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return export(tiny_hf, "openvino-fp16", tmp_path_factory.mktemp("exports") / "openvino", SilentProgress())


@pytest.fixture(scope="session")
def tiny_onnx(tiny_hf: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return export(tiny_hf, "onnx-int8", tmp_path_factory.mktemp("exports") / "onnx", SilentProgress())


@pytest.fixture(scope="session")
def tiny_gguf(tiny_hf: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return export(tiny_hf, "gguf-f16", tmp_path_factory.mktemp("exports") / "gguf", SilentProgress())


@pytest.fixture(params=["tiny_hf", "tiny_openvino", "tiny_onnx", "tiny_gguf"])
def any_model(request: pytest.FixtureRequest) -> Model:
    """The same model for each real engine in turn."""
    model = request.getfixturevalue(request.param)
    assert isinstance(model, Model)
    return model
