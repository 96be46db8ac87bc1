"""Which models can be pruned, and that walking through one gives what the model gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.compress.prune.material import EVERY, SMALL, batches, copy_tokenizer, examples, load, make_model
from vivace.compress.prune.decoder import open_decoder
from vivace.compress.prune.sample import make_batches
from vivace.compress.prune.walk import domain_losses
from vivace.errors import ModelError
from vivace.models import ChatTokenizer
from vivace.train.batches.rows import encode_examples


@pytest.mark.parametrize("family", EVERY)
def test_the_domain_loss_is_transformers_own_loss_on_the_answers(family: str, tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / family, tiny_model, family)
    rows = encode_examples(ChatTokenizer.open(tiny_model), examples()[:8], "Be kind.", 256).rows
    found = domain_losses(open_decoder(folder), make_batches(rows, 120))
    model = load(folder)
    expected = {}
    for row in rows:
        with torch.no_grad():
            mean = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss
        expected[float(mean) * row.learned] = float(row.learned)
    order = sorted(expected)
    np.testing.assert_allclose(sorted(found[:, 0]), order, rtol=1e-4)
    assert sorted(found[:, 1]) == sorted(expected.values())


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("GPT2LMHeadModel", {"n_embd": 48, "n_layer": 2, "n_head": 4, "vocab_size": 512}, "no plain decoder"),
        ("MixtralForCausalLM", SMALL | {"num_local_experts": 2}, "layer 0 has other matrices"),
        ("FalconForCausalLM", {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}, "decoder"),
    ],
)
def test_another_architecture_is_refused_with_a_sentence(
    name: str, settings: dict[str, object], told: str, tmp_path: Path, tiny_model: Path
) -> None:
    kind = getattr(transformers, name)
    kind(kind.config_class(**settings)).save_pretrained(tmp_path)
    copy_tokenizer(tiny_model, tmp_path)
    with pytest.raises(ModelError, match=told) as refused:
        open_decoder(tmp_path)
    assert name in refused.value.message
    assert "can be pruned" in refused.value.hint


def test_a_quantized_model_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / "llama", tiny_model, "llama")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("{", '{"quantization_config": {"quant_method": "gptq"},', 1))
    with pytest.raises(ModelError, match="quantized already"):
        open_decoder(folder)


def test_padding_changes_no_conversations_loss(tiny_model: Path) -> None:
    decoder = open_decoder(tiny_model)
    rows = encode_examples(ChatTokenizer.open(tiny_model), examples()[:8], "", 256).rows
    together, alone = domain_losses(decoder, make_batches(rows, 4000)), domain_losses(decoder, make_batches(rows, 1))
    assert len(make_batches(rows, 4000)) == 1
    assert len(make_batches(rows, 1)) == 8
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert len(batches(tiny_model)) > 1
