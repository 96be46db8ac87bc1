"""Tiny models of three families, and each of their exports once for the whole session."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace.compress.calibration import Calibration
from vivace.compress.compressed_tensors import export
from vivace.domain import Model, SilentProgress

SMALL = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "Qwen2ForCausalLM": {"tie_word_embeddings": True},
    "Qwen3ForCausalLM": {"head_dim": 32, "tie_word_embeddings": False},
}

Sources = Callable[[str], Model]
Exported = Callable[..., Model]


@pytest.fixture(scope="session")
def sources(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Return a function that gives the model of a family: the tiny Llama, or a seeded Qwen with its tokenizer."""
    made = {"LlamaForCausalLM": Model("tiny", tiny_model, "hf", "fp32", license="Apache-2.0")}

    def once(family: str) -> Model:
        if family not in made:
            made[family] = _random(family, tiny_model, tmp_path_factory.mktemp("source") / family)
        return made[family]

    return once


def _random(family: str, tokenizer: Path, folder: Path) -> Model:
    import torch
    import transformers

    shutil.copytree(tokenizer, folder)
    (folder / "generation_config.json").unlink()
    torch.manual_seed(11)
    kind = getattr(transformers, family)
    model = kind(kind.config_class(**SMALL, **FAMILIES[family], architectures=[family]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)  # fresh weights hardly tell tokens apart
            elif name.endswith("bias"):
                parameter.normal_()
    model.save_pretrained(folder)
    return Model(family, folder, "hf", "fp32")


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    """Some rows of tokens, of many lengths."""
    random = np.random.default_rng(3)
    rows = (tuple(random.integers(3, 512, length).tolist()) for length in (9, 33, 64, 20, 48, 57))
    return Calibration(tuple(rows), "domain")


@pytest.fixture(scope="session")
def packed(sources: Sources, calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a function that exports a family's model as a kind, with texts to look at or without, once."""
    root = tmp_path_factory.mktemp("packed")
    made: dict[tuple[str, str, bool], Model] = {}

    def once(kind: str, looked: bool = False, family: str = "LlamaForCausalLM") -> Model:
        key = (kind, looked, family)
        if key not in made:
            out = root / f"{kind}-{looked}-{family}"
            texts = calibration if looked else None
            made[key] = export(sources(family), kind, out, SilentProgress(), None, texts)
        return made[key]

    return once
