"""Conversations that share a row do not see one another."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.train.material import run, stop_and_go_on, write_dataset
from vivace.errors import ModelError
from vivace.models import load_causal_lm
from vivace.store.files import folder_digest
from vivace.train.batches.packing import check_packing, collate, collate_packed, pack
from vivace.train.batches.rows import IGNORED


def rows_of(*lengths: int, share: float = 1.0) -> list[dict[str, Any]]:
    source = np.random.default_rng(sum(lengths))
    made = []
    for length in lengths:
        ids = source.integers(3, 500, length).tolist()
        learned = length // 2
        made.append({"input_ids": ids, "labels": [IGNORED] * learned + ids[learned:], "share": share})
        share += 0.5 * (share != 1.0)
    return made


def tiny(family: str, **changes: Any) -> Any:
    """A seeded model of a family, two layers deep, in training as `load_causal_lm` opens it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 600, "max_position_embeddings": 128}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**sizes, "pad_token_id": 0, **changes})
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").float().eval()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(10, 60))
def test_a_line_holds_no_more_than_it_may_and_every_row_is_in_one(lengths: list[int], longest: int) -> None:
    lines = pack(lengths, longest)
    assert sorted(i for line in lines for i in line) == list(range(len(lengths)))
    assert all(len(line) == 1 or sum(lengths[i] for i in line) <= longest for line in lines)
    assert lines == pack(lengths, longest)
    sizes = sorted(sum(lengths[i] for i in line) for line in lines)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > longest  # no two lines could be one


# Llama also stands for Mistral without a window and for SmolLM2.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"sliding_window": 6},
    "gemma3_text": {"sliding_window": 6},
    "phi3": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_packed_logits_and_gradients_are_those_of_separate_rows(family: str) -> None:
    import torch

    model = tiny(family, **FAMILIES[family])
    check_packing(model)
    rows = rows_of(20, 9, 7, 13)
    batch = collate_packed(rows, 0, 36)
    assert batch["input_ids"].shape == (2, 33)
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    starts = torch.nonzero(batch["position_ids"] == 0).tolist()
    for row in rows:
        alone = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0]
        here = [
            logits[line, start : start + len(alone)]
            for line, start in starts
            if batch["input_ids"][line, start : start + len(alone)].tolist() == row["input_ids"]
        ]
        assert len(here) == 1
        torch.testing.assert_close(here[0], alone, rtol=1e-4, atol=1e-4)
        torch.nn.functional.cross_entropy(alone[:-1], torch.tensor(row["labels"][1:]), reduction="sum").backward()
    for name, gradient in found.items():
        wanted = dict(model.named_parameters())[name].grad
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-4, msg=name)


def test_a_family_whose_conversations_would_see_one_another_is_refused() -> None:
    sizes = {"state_size": 4, "num_hidden_layers": 1, "vocab_size": 600}
    check_packing(tiny("llama").bfloat16())
    with pytest.raises(ModelError, match="In a MambaForCausalLM, conversations that share a row would see one another"):
        check_packing(tiny_recurrent(**sizes))
    with pytest.raises(ModelError, match="would see one another"):
        check_packing(tiny_recurrent(**sizes).bfloat16())


def tiny_recurrent(**sizes: int) -> Any:
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    return MambaForCausalLM(MambaConfig(hidden_size=32, initializer_range=0.5, **sizes)).eval()


def test_what_a_row_counts_goes_with_its_tokens(tiny_model: Path) -> None:
    import torch

    from vivace.train.head_loss import backbone, head_loss

    rows = rows_of(20, 9, 7, 13, share=0.5)
    model = load_causal_lm(tiny_model)
    sums = []
    for batch in (collate(rows, 0), collate_packed(rows, 0, 64)):
        labels, shares = batch.pop("labels"), batch.pop("shares")
        with torch.no_grad():
            hidden = backbone(model)(**batch, use_cache=False).last_hidden_state
            sums.append(head_loss(hidden, model.get_output_embeddings().weight, labels, shares)[0])
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_packed_training_makes_the_same_model_and_continues_to_the_same_bits(tiny_model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    calm: dict[str, Any] = {"lora_dropout": 0.0, "learning_rate": 1e-3, "max_length": 128}
    run(dataset, tiny_model, tmp_path / "apart", **calm)
    run(dataset, tiny_model, tmp_path / "packed", packing=True, **calm)
    stop_and_go_on(dataset, tiny_model, tmp_path / "stopped", packing=True, **calm)
    told = [(tmp_path / name / "out" / "history.jsonl").read_text().splitlines() for name in ("apart", "packed")]
    for apart, packed in zip(*told, strict=True):
        for name, value in json.loads(apart).items():
            assert json.loads(packed)[name] == pytest.approx(value, rel=2e-3), (name, apart)
    weights = [
        load_file(str(tmp_path / name / "out" / "model" / "adapter_model.safetensors")) for name in ("apart", "packed")
    ]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, rtol=0.02, atol=1e-3)
    assert folder_digest(tmp_path / "stopped" / "out")[0] == folder_digest(tmp_path / "packed" / "out")[0]
