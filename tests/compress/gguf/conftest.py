"""A model wide enough for K-quants, and texts of two kinds."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wide_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose rows are multiples of 256, with the tiny tokenizer."""
    from tests.compress.gguf.reading import small_model

    out = tmp_path_factory.mktemp("wide") / "wide"
    return small_model(tiny_model, out, "LlamaForCausalLM", hidden_size=256, intermediate_size=512, num_hidden_layers=8)
