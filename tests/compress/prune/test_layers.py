"""Leaving layers out: nothing else changes, and the right ones go."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.compress.prune.material import (
    EVERY,
    batches,
    change,
    equal,
    load,
    logits,
    make_model,
    make_sure_model,
    own_sample,
    sample,
)
from vivace.compress.prune.decoder import open_decoder
from vivace.compress.prune.importance import layer_numbers
from vivace.compress.prune.layers import choose_layers, kept_count, prune_layers
from vivace.compress.prune.sample import loss_of
from vivace.compress.prune.walk import domain_losses
from vivace.errors import ConfigError, ModelError


def silence(layer: int, scale: float = 0.0) -> Any:
    """An edit that lets a layer write nothing, or next to nothing."""

    def edit(model: Any) -> None:
        found = model.model.layers[layer]
        for part in (found.self_attn.o_proj, found.mlp.down_proj):
            part.weight.mul_(scale)
            if part.bias is not None:
                part.bias.mul_(scale)

    return edit


@pytest.mark.parametrize("family", EVERY)
def test_removing_a_layer_that_writes_nothing_changes_no_logit(family: str, tmp_path: Path, tiny_model: Path) -> None:
    folder = change(make_model(tmp_path / family, tiny_model, family), silence(2))
    prune_layers(folder, tmp_path / "out", sample(tiny_model), keep=[0, 1, 3])
    assert equal(logits(load(tmp_path / "out")), logits(load(folder)))


@pytest.mark.parametrize("family", EVERY)
def test_a_written_model_answers_as_the_walk_without_those_layers(
    family: str, tmp_path: Path, tiny_model: Path
) -> None:
    folder = make_model(tmp_path / family, tiny_model, family)
    prune_layers(folder, tmp_path / "out", sample(tiny_model), keep=[0, 3])
    expected = domain_losses(open_decoder(folder), batches(tiny_model), [0, 3])
    np.testing.assert_allclose(domain_losses(open_decoder(tmp_path / "out"), batches(tiny_model)), expected, rtol=1e-5)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 2


def test_lists_with_one_entry_a_layer_keep_the_layers_that_stay(tmp_path: Path, tiny_model: Path) -> None:
    def config(family: str, keep: list[int]) -> dict[str, Any]:
        folder = make_model(tmp_path / family, tiny_model, family, eos_token_id=[2, 1, 0, 3])
        prune_layers(folder, tmp_path / f"{family}-out", sample(tiny_model), keep=keep)
        return json.loads((tmp_path / f"{family}-out" / "config.json").read_text())

    gemma = config("gemma3", [0, 2, 3])
    assert gemma["layer_types"] == ["sliding_attention", "sliding_attention", "full_attention"]
    assert gemma["eos_token_id"] == [2, 1, 0, 3]
    assert config("smollm3", [0, 1, 2])["no_rope_layers"] == [1, 0, 1]
    qwen = config("qwen2", [0, 2, 3])
    assert qwen["layer_types"] == ["full_attention", "sliding_attention", "sliding_attention"]
    assert qwen["max_window_layers"] == 1


@pytest.mark.parametrize("method", ["loss", "angular", "influence"])
@pytest.mark.parametrize("planted", [0, 1, 3])
def test_a_planted_unimportant_layer_is_found_first(
    method: Any, planted: int, tmp_path: Path, tiny_model: Path
) -> None:
    folder = change(make_sure_model(tmp_path / "llama", tiny_model), silence(planted, 1e-4))
    kept = prune_layers(folder, tmp_path / "out", own_sample(folder), share=0.75, method=method)
    assert kept == [layer for layer in range(4) if layer != planted]


def test_angular_removes_the_block_that_turns_least(tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / "llama", tiny_model, "llama")
    change(change(folder, silence(1, 0.02)), silence(2, 0.02))
    assert prune_layers(folder, tmp_path / "out", sample(tiny_model), keep=2, method="angular") == [0, 3]


def test_numbers_are_those_of_their_definitions(tmp_path: Path, tiny_model: Path) -> None:
    decoder = open_decoder(make_model(tmp_path / "llama", tiny_model, "llama"))
    given = batches(tiny_model)
    numbers = layer_numbers(decoder, given)
    for layer in range(4):
        without = domain_losses(decoder, given, [other for other in range(4) if other != layer])
        assert numbers.loss_without[layer] == pytest.approx(loss_of(without), abs=1e-5)
    cosines, angles = [], []
    for batch in given:
        with torch.no_grad():
            states = decoder.trunk(
                input_ids=batch.ids, attention_mask=batch.mask, output_hidden_states=True
            ).hidden_states
        said = torch.nn.functional.pad(batch.labels[:, 1:] >= 0, (0, 1))
        cosines.append(torch.cosine_similarity(states[1][said], states[2][said], dim=-1))
        angles.append(torch.cosine_similarity(states[0][said], states[3][said], dim=-1).arccos() / torch.pi)
    assert numbers.influence[1] == pytest.approx(float(1 - torch.cat(cosines).mean()), rel=1e-3)
    assert numbers.angular[2][0] == pytest.approx(float(torch.cat(angles).mean()), rel=1e-3)
    assert [len(row) for row in numbers.angular] == [4, 3, 2, 1]
    assert all(
        low <= without - numbers.loss <= high
        for without, (low, high) in zip(numbers.loss_without, numbers.intervals, strict=True)
    )


def test_each_round_measures_without_the_layers_already_gone(tmp_path: Path, tiny_model: Path) -> None:
    decoder = open_decoder(make_model(tmp_path / "llama", tiny_model, "llama"))
    given = batches(tiny_model)
    kept, rounds = choose_layers(decoder, given, 2, "loss")
    (first,), (second,) = (told["removed"] for told in rounds)
    assert sorted([*kept, first, second]) == [0, 1, 2, 3]
    for layer, loss in rounds[1]["loss_without"].items():
        alive = [other for other in range(4) if other not in (first, int(layer))]
        assert loss == pytest.approx(loss_of(domain_losses(decoder, given, alive)), abs=1e-5)
    assert min(rounds[1]["loss_without"], key=rounds[1]["loss_without"].get) == str(second)
    together, (only,) = choose_layers(decoder, given, 2, "loss", per_round=2)
    assert len(only["removed"]) == 2
    assert len(together) == 2


def test_rounds_that_are_noted_are_not_measured_again(tmp_path: Path, tiny_model: Path) -> None:
    decoder = open_decoder(make_model(tmp_path / "llama", tiny_model, "llama"))
    given, journal = batches(tiny_model), tmp_path / "rounds.jsonl"
    whole = choose_layers(decoder, given, 1, "loss", journal=tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    journal.write_bytes(lines[0] + lines[1][:20])  # killed while the second round was written
    assert choose_layers(decoder, given, 1, "loss", journal=journal) == whole
    assert journal.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    numbers = layer_numbers(decoder, given)
    assert choose_layers(decoder, given, 1, "loss", numbers)[0] == whole[0]
    assert choose_layers(decoder, (), 1, "loss", journal=journal) == whole


def test_what_cannot_be_kept_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    for keep in ([1, 0], [0, 9], [], 0, 9):
        with pytest.raises((ConfigError, ModelError), match="cannot be kept"):
            prune_layers(tiny_model, tmp_path / "out", sample(tiny_model), keep=keep)
    with pytest.raises(ConfigError, match="either"):
        prune_layers(tiny_model, tmp_path / "out", sample(tiny_model))
    assert not (tmp_path / "out").exists()


def test_a_share_keeps_the_nearest_number_and_at_least_one() -> None:
    assert [kept_count(share, 30) for share in (1.0, 0.5, 0.51, 0.01)] == [30, 15, 15, 1]
