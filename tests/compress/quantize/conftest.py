"""A model that four bits hold badly."""

from pathlib import Path

import pytest
import torch

from tests.compress.prune.material import load, make_model

LOUD, LOUDER = 7, 50.0


@pytest.fixture(scope="session")
def loud(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, one input channel of whose matrices is fifty times louder than the others."""
    folder = make_model(tmp_path_factory.mktemp("loud") / "model", tiny_model, "llama", hidden_size=64)
    model = load(folder)
    with torch.no_grad():
        for layer in model.model.layers:
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight[LOUD] = LOUDER
    model.save_pretrained(folder)
    return folder
