"""Zeros in a whole model: in every matrix of every layer, judged by what it reads after the layers before it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compress.prune.material import EVERY, batches, load, logits, make_model
from vivace.compress.prune import masks
from vivace.compress.prune.decoder import open_decoder
from vivace.compress.prune.sparsify import sparsify


@pytest.mark.parametrize("family", EVERY)
def test_every_matrix_of_a_written_model_holds_the_pattern(family: str, tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / family, tiny_model, family)
    decoder = open_decoder(folder)
    told = sparsify(decoder, batches(folder), pattern="2:4")
    decoder.save(folder, tmp_path / "out")
    before, after = load(folder), load(tmp_path / "out")
    assert told["zeros"] == 0.5
    assert told["zeros_of_all"] < 0.5
    names = [name for name, part in after.named_modules() if isinstance(part, torch.nn.Linear) and ".layers." in name]
    assert len(names) == 4 * (4 if family == "phi3" else 7)
    for name in names:
        weight = after.get_submodule(name).weight
        assert bool(((weight.reshape(-1, 4) != 0).sum(dim=1) == 2).all()), name
    assert torch.equal(before.get_input_embeddings().weight, after.get_input_embeddings().weight)


def test_each_layer_is_judged_by_what_the_pruned_ones_before_it_give(tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / "llama", tiny_model, "llama")
    decoder = open_decoder(folder)
    sparsify(decoder, batches(folder), method="sparsegpt", sparsity=0.5)
    model, original = decoder.model, load(folder)
    mixed = load(folder)  # layer 0 pruned, the others not yet
    mixed.model.layers[0].load_state_dict(decoder.layers[0].state_dict())
    for source, same in ((mixed, True), (original, False)):
        weight = original.model.layers[1].self_attn.k_proj.weight.detach()
        expected = masks.sparsegpt(weight, gram_of(source, batches(folder)), 0.5, "unstructured")
        found = model.model.layers[1].self_attn.k_proj.weight
        assert bool(torch.allclose(found, expected, atol=1e-3 * float(weight.abs().max()))) is same


def gram_of(model: Any, given: Any) -> torch.Tensor:
    """X^T X of what the keys of layer 1 are made from."""
    read: list[torch.Tensor] = []
    hook = model.model.layers[1].self_attn.k_proj.register_forward_pre_hook(lambda _module, x: read.append(x[0]))
    with torch.no_grad():
        for batch in given:
            model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
    hook.remove()
    rows = torch.cat([x[batch.real] for x, batch in zip(read, given, strict=True)])
    return rows.T @ rows


def test_better_methods_keep_the_models_answers_closer(tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / "llama", tiny_model, "llama")
    whole = load(folder)
    errors = {}
    ways: tuple[Any, ...] = ("sparsegpt", "wanda", "magnitude")
    for method in ways:
        decoder = open_decoder(folder)
        sparsify(decoder, batches(folder, 20), method=method, sparsity=0.5)
        errors[method] = 0.0
        for batch in batches(folder, 20):
            with torch.no_grad():
                given = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
                difference = (decoder.model(**given).logits - whole(**given).logits)[batch.real]
            errors[method] += float(difference.square().sum())
    assert errors["sparsegpt"] < 0.9 * errors["wanda"]
    assert errors["wanda"] < errors["magnitude"]


def test_no_zeros_asked_for_changes_nothing(tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / "llama", tiny_model, "llama")
    decoder = open_decoder(folder)
    expected = logits(decoder.model)
    sparsify(decoder, batches(folder), method="wanda", sparsity=0.0)
    assert torch.equal(logits(decoder.model), expected)
