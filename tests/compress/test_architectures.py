"""Every architecture that may be exported answers as it does in transformers."""

from pathlib import Path

import numpy as np
import pytest

from tests.compress.numbers import OpenVinoModel
from vivace.compress.openvino_graph import convert, make_stateful
from vivace.compress.support import ARCHITECTURES, check_traced

pytestmark = pytest.mark.slow

SMALL = {
    "vocab_size": 96, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip
# What sets each family apart, and a second shape where it has one.
VARIANTS = [
    ("LlamaForCausalLM", {"head_dim": 8}),
    (
        "LlamaForCausalLM",
        {
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    ("LlamaForCausalLM", {"num_key_value_heads": 1}),
    ("MistralForCausalLM", {"sliding_window": None, "head_dim": 16}),
    ("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    ("Qwen3ForCausalLM", {"head_dim": 16}),
]  # fmt: skip


def test_each_architecture_has_a_variant_here() -> None:
    assert {name for name, _ in VARIANTS} == set(ARCHITECTURES)


@pytest.mark.parametrize(("architecture", "change"), VARIANTS)
def test_an_architectures_export_equals_transformers(architecture: str, change: dict[str, object]) -> None:
    import torch
    import transformers

    torch.manual_seed(5)
    family = getattr(transformers, architecture)
    config = family.config_class(**{**SMALL, **change}, architectures=[architecture], attn_implementation="sdpa")
    check_traced(Path("model"), config.to_dict())
    model = family(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # fresh weights hardly tell positions apart
    graph = convert(model)
    make_stateful(graph)
    exported = OpenVinoModel(graph)
    random = np.random.default_rng(5)
    for length in (1, 2, 9, 64, 150):
        ids = random.integers(1, 96, length).tolist()
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(exported.whole(ids), expected, atol=2e-4 * np.abs(expected).max(), rtol=0)
        exported.start()
        pieces = [exported.step([ids[:1]])] + [
            exported.step([[number]], np.ones((1, end), np.int64), [[end - 1]])
            for end, number in enumerate(ids[1:], start=2)
        ]
        together = np.concatenate(pieces, axis=1)[0]
        np.testing.assert_allclose(together, expected, atol=2e-4 * np.abs(expected).max(), rtol=0)
