"""One export of each kind for the whole session, and the same answers from transformers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vivace.compress import export
from vivace.domain import Model, SilentProgress


@pytest.fixture(scope="session")
def half_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The tiny model with weights that fp16 holds exactly, so that an fp16 export can be compared to the last bit."""
    folder = tmp_path_factory.mktemp("half") / "tiny"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    return Model("tiny", folder, "hf", "fp32", license="Apache-2.0")


@pytest.fixture(scope="session")
def exported(half_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """Return a function that exports the half model as `kind`, once."""
    root = tmp_path_factory.mktemp("exports")
    made: dict[str, Model] = {}

    def once(kind: str) -> Model:
        if kind not in made:
            made[kind] = export(half_model, kind, root / kind, SilentProgress())
        return made[kind]

    return once


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """Prompts of many lengths, from one token to two hundred."""
    random = np.random.default_rng(7)
    lengths = [1, 2, 3, 5, 8, 13, 17, 21, 31, 32, 33, 48, 63, 64, 65, 80, 96, 100, 127, 128, 129, 160, 190, 200]
    return [random.integers(3, 512, length).tolist() for length in lengths]
