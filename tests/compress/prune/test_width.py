"""Taking heads and channels out: the shared keys go with their heads, nothing else changes, the right ones go."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.compress.prune.material import (
    EVERY,
    SMALL,
    batches,
    change,
    copy_tokenizer,
    equal,
    load,
    logits,
    make_model,
    make_sure_model,
    own_answers,
)
from vivace.compress.prune.correction import compensated, narrow_with_correction
from vivace.compress.prune.decoder import Decoder, open_decoder
from vivace.compress.prune.importance import width_numbers
from vivace.compress.prune.sample import AnswerLoss, learned
from vivace.compress.prune.walk import Walk, inputs_of
from vivace.compress.prune.width import Width, choose_width, narrow, whole
from vivace.errors import ConfigError, ModelError


def some_width(decoder: Decoder, unit: str) -> Width:
    """Other heads and channels in every layer, half of each."""
    shape, random = decoder.shape, np.random.default_rng(8)
    size = shape.heads_per_group
    heads, groups, channels = [], [], []
    for _ in range(shape.layers):
        chosen = sorted(random.choice(shape.groups, shape.groups // 2, replace=False).tolist())
        if unit == "group":
            groups.append(chosen)
            heads.append([group * size + i for group in chosen for i in range(size)])
        else:
            groups.append(list(range(shape.groups)))
            heads.append([group * size + int(random.integers(size)) for group in range(shape.groups)])
        channels.append(sorted(random.choice(shape.channels, 32, replace=False).tolist()))
    return Width(heads, groups, channels)


def silenced(folder: Path, width: Width) -> torch.Tensor:
    """Logits of the whole model with zeros in the columns that read the heads and channels outside `width`."""
    model = load(folder)
    with torch.no_grad():
        for i, layer in enumerate(model.model.layers):
            output, down = layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight
            size = output.shape[1] // model.config.num_attention_heads
            for head in set(range(model.config.num_attention_heads)) - set(width.heads[i]):
                output[:, head * size : (head + 1) * size] = 0
            for channel in set(range(down.shape[1])) - set(width.channels[i]):
                down[:, channel] = 0
    return logits(model)


@pytest.mark.parametrize("unit", ["group", "head"])
@pytest.mark.parametrize("family", EVERY)
def test_a_narrower_model_answers_as_the_whole_one_with_those_columns_zeroed(
    family: str, unit: str, tmp_path: Path, tiny_model: Path
) -> None:
    folder = make_model(tmp_path / family, tiny_model, family)
    decoder = open_decoder(folder)
    width = some_width(decoder, unit)
    narrow(decoder, width)
    decoder.save(folder, tmp_path / "out")
    smaller = load(tmp_path / "out")
    assert equal(logits(smaller), silenced(folder, width))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2 if unit == "group" else 4)
    assert config["intermediate_size"] == 32
    assert config["head_dim"] == load(folder).model.layers[0].self_attn.head_dim


def test_heads_that_are_not_independent_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    torch.manual_seed(1)
    model = transformers.Olmo2ForCausalLM(transformers.Olmo2Config(**SMALL))  # its norm spans all heads together
    model.save_pretrained(tmp_path)
    copy_tokenizer(tiny_model, tmp_path)
    decoder = open_decoder(tmp_path)
    for make in (narrow, lambda *given: narrow_with_correction(*given, batches(tmp_path))):
        with pytest.raises(ModelError, match="q_norm.weight spans all of them"):
            make(decoder, some_width(decoder, "group"))


@pytest.mark.parametrize("method", ["taylor", "activation"])
def test_planted_unimportant_heads_and_channels_are_found_first(method: Any, tmp_path: Path, tiny_model: Path) -> None:
    folder = make_sure_model(tmp_path / "llama", tiny_model)
    random = np.random.default_rng(2)
    groups = [int(random.integers(4)) for _ in range(4)]
    channels = [random.choice(96, 32, replace=False).tolist() for _ in range(4)]

    def plant(model: Any) -> None:
        for i, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight[:, groups[i] * 12 : (groups[i] + 1) * 12] *= 1e-3
            layer.mlp.down_proj.weight[:, channels[i]] *= 1e-3

    decoder = open_decoder(change(folder, plant))
    numbers = width_numbers(decoder, own_answers(folder))
    for i in range(4):
        assert int(np.argmin(getattr(numbers, f"groups_{method}")[i])) == groups[i]
        lowest = np.argsort(getattr(numbers, f"channels_{method}")[i])[:32]
        assert set(lowest.tolist()) == set(channels[i])
    width = choose_width(decoder, numbers, channels=0.67, method=method)
    assert width.heads == whole(decoder.shape).heads
    assert [set(range(96)) - set(kept) for kept in width.channels] == [set(each) for each in channels]
    heads = choose_width(decoder, numbers, heads=0.5, method=method)
    assert all(groups[i] not in kept and len(kept) == 2 for i, kept in enumerate(heads.groups))


def test_activation_times_gradient_is_the_slope_of_the_loss_at_a_gate(tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / "llama", tiny_model, "llama")
    decoder = open_decoder(folder)
    given = batches(folder)
    numbers = width_numbers(decoder, given)

    def losses(layer: int, what: str, first: int, last: int, gate: float) -> np.ndarray:
        module = decoder.output(layer) if what == "heads" else decoder.down(layer)

        def scale(_name: str, read: torch.Tensor) -> torch.Tensor:
            changed = read.clone()
            changed[..., first:last] *= gate
            return changed

        found = []
        with torch.no_grad(), inputs_of({"it": module}, scale):
            for batch in given:
                hidden = Walk(decoder, batch).through(range(4))
                found.append((AnswerLoss(decoder)(hidden, batch) / learned(batch)).double().numpy())
        return np.concatenate(found)

    size = decoder.shape.head_dim
    for layer, what, first, last, said in (
        (0, "heads", 3 * size, 4 * size, numbers.heads_taylor[0][3]),
        (2, "heads", 2 * size, 4 * size, numbers.groups_taylor[2][1]),
        (1, "channels", 7, 8, numbers.channels_taylor[1][7]),
    ):
        slope = (losses(layer, what, first, last, 1.05) - losses(layer, what, first, last, 0.95)) / 0.1
        assert said == pytest.approx(float((slope**2).mean()), rel=0.03), (layer, what)


def test_the_number_of_heads_is_one_that_can_be_loaded(tmp_path: Path, tiny_model: Path) -> None:
    decoder = open_decoder(make_model(tmp_path / "llama", tiny_model, "llama"))
    numbers = width_numbers(decoder, batches(tiny_model))
    # 48 wide: 6 heads divide it, and so do 4 and 2; five groups of two heads are not to be had.
    assert choose_width(decoder, numbers, heads=0.7).counts() == {"heads": 6, "groups": 3, "channels": 96}
    assert choose_width(decoder, numbers, heads=0.01).counts()["groups"] == 1
    assert choose_width(decoder, numbers, heads=0.5, unit="head").counts() == {"heads": 4, "groups": 4, "channels": 96}
    assert choose_width(decoder, numbers, channels=0.5, multiple=32).counts()["channels"] == 64
    assert choose_width(decoder, numbers, channels=0.01, multiple=32).counts()["channels"] == 32
    alone = open_decoder(make_model(tmp_path / "alone", tiny_model, "llama", num_key_value_heads=1, head_dim=6))
    with pytest.raises(ConfigError, match="can be loaded"):
        choose_width(alone, width_numbers(alone, batches(tiny_model)), heads=0.5)


def test_a_twin_channel_takes_over_what_its_twin_said() -> None:
    torch.manual_seed(0)
    read = torch.randn(400, 8)
    read[:, 4:] = 2 * read[:, :4]
    weight = torch.randn(5, 8)
    kept = torch.tensor([4, 5, 6, 7])
    made = compensated(weight, read.T @ read, kept)
    wanted = read @ weight.T
    assert float((read[:, 4:] @ made.T - wanted).norm() / wanted.norm()) < 0.01
    assert float((read[:, 4:] @ weight[:, 4:].T - wanted).norm() / wanted.norm()) > 0.2


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
def test_correction_lowers_the_error_on_other_conversations(family: str, tmp_path: Path, tiny_model: Path) -> None:
    folder = make_model(tmp_path / family, tiny_model, family)
    whole_model = load(folder)
    errors = {}
    for corrected in (True, False):
        decoder = open_decoder(folder)
        width = some_width(decoder, "group")
        if corrected:
            narrow_with_correction(decoder, width, batches(folder, 20))
        else:
            narrow(decoder, width)
        decoder.save(folder, tmp_path / "out")
        made, total = load(tmp_path / "out"), 0.0
        for batch in batches(folder, 12, start=20):
            with torch.no_grad():
                given = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
                difference = whole_model.model(**given)[0] - made.model(**given)[0]
            total += float(difference[batch.real].square().sum())
        errors[corrected] = total
    assert errors[True] < 0.8 * errors[False], errors
