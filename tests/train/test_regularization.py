"""What keeps a model from learning its few conversations by heart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.train.material import run, stop_and_go_on, write_dataset
from vivace.config.train import TrainSettings
from vivace.errors import ConfigError
from vivace.models import identify, load_causal_lm
from vivace.store.files import folder_digest, read_journal
from vivace.train.adapters import prepare_weights


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(str(next((folder / "out" / "model").glob("*.safetensors"))))


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_journal(folder / "out" / "history.jsonl")]


@pytest.mark.slow
def test_labels_are_smoothed_in_training_and_not_in_validation(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    short: dict[str, Any] = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "lora_dropout": 0.0}
    run(dataset, tiny_model, tmp_path / "plain", **short)
    run(dataset, tiny_model, tmp_path / "smooth", label_smoothing_factor=0.3, **short)
    plain, smooth = history(tmp_path / "plain"), history(tmp_path / "smooth")
    assert plain[0] == smooth[0]
    assert plain[1]["loss"] != pytest.approx(smooth[1]["loss"], rel=1e-3)


def test_the_noise_has_the_strength_of_the_paper(tiny_model: Path) -> None:
    import torch
    from transformers.integrations.neftune import activate_neftune

    model = load_causal_lm(tiny_model)
    embeddings = model.get_input_embeddings()
    ids = torch.arange(40)[None].expand(8, 40)
    before = embeddings(ids)
    activate_neftune(model, 5.0)
    model.train()
    noise = (embeddings(ids) - before).detach()
    limit = 5.0 / (40 * 64) ** 0.5  # alpha / sqrt(L d), https://arxiv.org/abs/2310.05914
    assert float(noise.abs().max()) <= limit * 1.0001
    assert float(noise.std()) == pytest.approx(limit / 3**0.5, rel=0.02)
    model.train(False)
    assert torch.equal(embeddings(ids), before)


@pytest.mark.slow
def test_noisy_training_is_deterministic_and_continues_to_the_same_bits(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    noisy: dict[str, Any] = {"neftune_noise_alpha": 5.0}
    run(dataset, tiny_model, tmp_path / "plain")
    run(dataset, tiny_model, tmp_path / "noisy", **noisy)
    stop_and_go_on(dataset, tiny_model, tmp_path / "stopped", **noisy)
    digests = [folder_digest(tmp_path / name / "out")[0] for name in ("plain", "noisy", "stopped")]
    assert digests[0] != digests[1] == digests[2]
    # Validation is free of noise.
    assert history(tmp_path / "plain")[0] == history(tmp_path / "noisy")[0]


@pytest.mark.slow
def test_frozen_weights_stay_as_they_were(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    run(
        dataset, tiny_model, tmp_path,
        method="full", learning_rate=3e-3, num_train_epochs=2, weight_decay=0.1, freeze=["embed_tokens", "layers.0."],
    )  # fmt: skip
    after, before = weights(tmp_path), load_file(str(tiny_model / "model.safetensors"))
    for name, value in before.items():
        frozen = "embed_tokens" in name or "layers.0." in name
        assert np.array_equal(after[name], value) == frozen, name


def test_a_frozen_name_that_is_nowhere_is_refused_with_the_nearest(tiny_model: Path) -> None:
    base = identify(tiny_model)

    def freeze(*parts: str, method: str = "full") -> None:
        prepare_weights(load_causal_lm(tiny_model), base, TrainSettings(method=method, freeze=list(parts)))

    with pytest.raises(ConfigError, match="'embed_tokns', which is in no weight.*Did you mean 'embed_tokens'"):
        freeze("q_proj", "embed_tokns")
    with pytest.raises(ConfigError, match=r"'layers\.7\.', which is in no weight.*Did you mean"):
        freeze("layers.7.")
    with pytest.raises(ConfigError, match="no weight to train"):
        freeze("model.")
    with pytest.raises(ConfigError, match='freeze in .* is for method = "full"; lora'):
        freeze("embed_tokens", method="lora")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_activations_computed_twice_give_the_same_weights(
    dataset: Path, tiny_model: Path, tmp_path: Path, method: str
) -> None:
    changes: dict[str, Any] = {"method": method, "num_train_epochs": 2, "lora_layers_fraction": 0.5}
    run(dataset, tiny_model, tmp_path / "once", **changes)
    facts = run(dataset, tiny_model, tmp_path / "twice", gradient_checkpointing=True, **changes)
    once, twice = weights(tmp_path / "once"), weights(tmp_path / "twice")
    for name, value in once.items():
        np.testing.assert_allclose(twice[name], value, rtol=1e-4, atol=1e-5)
    assert facts["best_validation_loss"] < facts["validation_loss_before"]


def test_checkpointed_layers_keep_little_in_memory(tiny_model: Path) -> None:
    import torch

    from vivace.train.adapters import depth

    kept = []
    for again in (False, True):
        settings = TrainSettings(gradient_checkpointing=again, lora_layers_fraction=1.0)
        model = prepare_weights(load_causal_lm(tiny_model), identify(tiny_model), settings)
        if again:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        held = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal held
            held += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(input_ids=torch.arange(64)[None], use_cache=False)
        kept.append((held, depth(settings)))
    assert kept[1][0] < kept[0][0] / 2
    assert kept[1][1] < kept[0][1]


@pytest.mark.slow
def test_the_best_checkpoint_can_be_told_by_token_accuracy(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    facts = run(dataset, tiny_model, tmp_path, metric_for_best_model="token_accuracy", eval_steps_fraction=0.1)
    rows = [row for row in history(tmp_path)[1:] if "validation_loss" in row]
    best = max(rows, key=lambda row: row["validation_token_accuracy"])
    assert facts["best_validation_token_accuracy"] == best["validation_token_accuracy"]
    assert facts["best_step"] == best["step"]
