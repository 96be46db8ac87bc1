"""Tuning from a dataset to a model folder, interrupted and not."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.train.material import Watcher, kill, run, write_dataset
from vivace.domain import Example, Message, Model
from vivace.errors import ConfigError, DataError, ModelError
from vivace.models import ChatTokenizer, check_data_only, identify, load_causal_lm, load_with_adapter
from vivace.store import write_examples
from vivace.store.files import folder_digest, read_journal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def tuned(dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run from start to end, undisturbed."""
    folder = tmp_path_factory.mktemp("tuned")
    return folder, run(dataset, tiny_model, folder)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(str(folder / "out" / "model" / "adapter_model.safetensors"))


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_journal(folder / "out" / "history.jsonl")]


def test_a_few_rows_are_learned_by_heart(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    facts = run(dataset, tiny_model, tmp_path, num_train_epochs=40, lora_r=8, lora_dropout=0.0)
    assert facts["best_validation_loss"] < 0.1 < 3 < facts["validation_loss_before"]
    assert facts["best_validation_token_accuracy"] > 0.95
    model = load_with_adapter(tmp_path / "out" / "model", tiny_model)
    tokenizer = ChatTokenizer.open(tiny_model)
    import torch

    prompt = tokenizer.encode_chat((Message("system", "Be kind."), Message("user", "What is fact 0?")))
    said = model.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False, eos_token_id=2)[0]
    assert tokenizer.decode(said[len(prompt) :].tolist()) == "Fact 0 is blue."
    assert int(said[-1]) == 2


def test_the_history_has_a_row_a_step_and_the_facts_add_up(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = tuned
    rows = history(folder)
    assert [row["step"] for row in rows] == list(range(facts["steps"] + 1))
    assert rows[-1]["tokens"] == facts["tokens"]
    assert set(rows[1]) == {"step", "tokens", "loss", "token_accuracy", "learning_rate"}
    validated = {row["step"]: row["validation_loss"] for row in rows if "validation_loss" in row}
    assert sorted(validated) == [0, 8, 16, 24, 32]
    assert validated[0] == facts["validation_loss_before"]
    assert min(list(validated.values())[1:]) == facts["best_validation_loss"] == validated[facts["best_step"]]
    assert facts["trainable_parameters"] == sum(value.size for value in weights(folder).values())


def test_nothing_pickled_and_no_path_of_this_machine_is_left(tuned: tuple[Path, dict[str, Any]]) -> None:
    folder, _facts = tuned
    names = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert names <= {".json", ".jsonl", ".safetensors", ".jinja"}
    check_data_only(folder / "out" / "model")
    for path in (folder / "out").rglob("*.json*"):
        assert str(folder.parent) not in path.read_text(), path
    config = json.loads((folder / "out" / "model" / "adapter_config.json").read_text())
    assert "/" not in config["base_model_name_or_path"]


def test_training_is_deterministic(
    dataset: Path, tiny_model: Path, tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run(dataset, tiny_model, tmp_path)
    assert folder_digest(tmp_path / "out")[0] == folder_digest(tuned[0] / "out")[0]
    other = tmp_path / "other"
    run(dataset, tiny_model, other, seed=1)
    assert folder_digest(other / "out")[0] != folder_digest(tuned[0] / "out")[0]


def test_a_run_killed_in_the_middle_ends_with_the_same_bits(
    dataset: Path, tiny_model: Path, tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    assert 12 <= kill(dataset, tiny_model, tmp_path) < 32
    assert (tmp_path / "scratch" / "checkpoint-8").is_dir()
    assert not (tmp_path / "out" / "model").exists()
    # What a kill in the middle of writing would leave behind.
    shutil.copytree(tmp_path / "scratch" / "checkpoint-8", tmp_path / "scratch" / ".checkpoint-31.partial")
    shutil.copytree(tmp_path / "scratch" / "checkpoint-8", tmp_path / "scratch" / "checkpoint-30")
    (tmp_path / "scratch" / "checkpoint-30" / "checkpoint.json").write_text('{"step": 30}')

    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path, progress=watcher)
    assert any("continues after step" in text for text in watcher.said)
    assert folder_digest(tmp_path / "out")[0] == folder_digest(tuned[0] / "out")[0]
    assert facts["steps"] == tuned[1]["steps"]
    assert watcher.advanced["Training"] == watcher.totals["Training"] == facts["tokens"]


def test_a_killed_run_with_everything_turned_on_ends_with_the_same_bits(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    everything: dict[str, Any] = {
        "method": "dora",
        "label_smoothing_factor": 0.1,
        "neftune_noise_alpha": 5.0,
        "average_checkpoints": 3,
        "metric_for_best_model": "token_accuracy",
        "gradient_checkpointing": True,
        "packing": True,
        "train_sampling_strategy": "curriculum",
        "curriculum": "loss",
    }
    run(dataset, tiny_model, tmp_path / "through", **everything)
    kill(dataset, tiny_model, tmp_path / "killed", **everything)
    watcher = Watcher()
    run(dataset, tiny_model, tmp_path / "killed", progress=watcher, **everything)
    assert any("continues after step" in text for text in watcher.said)
    assert folder_digest(tmp_path / "killed" / "out")[0] == folder_digest(tmp_path / "through" / "out")[0]


def test_ctrl_c_keeps_the_step_at_hand_and_the_next_run_goes_on(
    dataset: Path, tiny_model: Path, tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    def interrupt(notes: int) -> None:
        if notes == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(dataset, tiny_model, tmp_path, progress=Watcher(interrupt))
    finally:
        signal.signal(signal.SIGINT, before)
    kept = [int(path.name.rpartition("-")[2]) for path in (tmp_path / "scratch").glob("checkpoint-*")]
    assert max(kept) in (5, 6)
    run(dataset, tiny_model, tmp_path)
    assert folder_digest(tmp_path / "out")[0] == folder_digest(tuned[0] / "out")[0]


def test_a_checkpoint_of_other_settings_is_not_continued(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    run(dataset, tiny_model, tmp_path, num_train_epochs=1)
    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path, progress=watcher, num_train_epochs=1, learning_rate=1e-3)
    assert not any("continues" in text for text in watcher.said)
    assert [row["step"] for row in history(tmp_path)] == list(range(facts["steps"] + 1))


def test_the_merged_model_says_what_base_and_adapter_say(tiny_model: Path, tuned: tuple[Path, dict[str, Any]]) -> None:
    import torch

    ids = torch.arange(10, 60)[None]
    with torch.no_grad():
        adapted = load_with_adapter(tuned[0] / "out" / "model", tiny_model)
        before = load_causal_lm(tiny_model)(ids).logits
        apart = adapted(ids).logits
        together = adapted.merge_and_unload()(ids).logits
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, apart, atol=1e-2)


def test_the_best_checkpoint_is_what_is_kept(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    # A learning rate that ruins the model: the first validations are the best.
    facts = run(dataset, tiny_model, tmp_path, learning_rate=0.3, early_stopping_patience=2, eval_steps_fraction=0.1)
    rows = {row["step"]: row["validation_loss"] for row in history(tmp_path) if "validation_loss" in row}
    assert facts["stopped_early"]
    assert facts["steps"] < facts["planned_steps"]
    assert facts["best_step"] < facts["steps"]
    assert rows[facts["best_step"]] == facts["best_validation_loss"] == min(rows[step] for step in rows if step)
    kept = load_file(str(tmp_path / "scratch" / f"checkpoint-{facts['best_step']}" / "weights.safetensors"))
    assert {value.tobytes() for value in kept.values()} == {value.tobytes() for value in weights(tmp_path).values()}


def test_only_the_top_layers_get_adapters_when_so_asked(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    facts = run(dataset, tiny_model, tmp_path, lora_layers_fraction=0.5, num_train_epochs=1)
    assert {name.split("layers.")[1][0] for name in weights(tmp_path)} == {"1"}
    load_with_adapter(tmp_path / "out" / "model", tiny_model)
    assert facts["trainable_parameters"] > 0


def test_a_full_run_writes_a_model_that_stands_alone(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    facts = run(dataset, tiny_model, tmp_path, method="full", learning_rate=3e-3, num_train_epochs=10)
    made = identify(tmp_path / "out" / "model")
    assert (made.format, facts["trainable_parameters"]) == ("hf", facts["parameters"])
    assert facts["best_validation_loss"] < facts["validation_loss_before"]
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (made.path / name).read_bytes() == (tiny_model / name).read_bytes()
    config = json.loads((made.path / "config.json").read_text())
    base = json.loads((tiny_model / "config.json").read_text())
    assert {key: config[key] for key in ("eos_token_id", "bos_token_id", "pad_token_id")} == {
        key: base[key] for key in ("eos_token_id", "bos_token_id", "pad_token_id")
    }
    load_causal_lm(made.path)


def test_gradients_added_up_over_small_batches_are_those_of_a_large_one(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"num_train_epochs": 1, "lora_dropout": 0.0, "learning_rate": 1e-3}
    large = run(dataset, tiny_model, tmp_path / "large", per_device_train_batch_size=8, **common)
    small = run(
        dataset,
        tiny_model,
        tmp_path / "small",
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        **common,
    )
    assert large["steps"] == small["steps"] == 1
    assert large["best_validation_loss"] == pytest.approx(small["best_validation_loss"], rel=1e-3)
    assert history(tmp_path / "large")[1]["loss"] == pytest.approx(history(tmp_path / "small")[1]["loss"], rel=1e-5)


def test_the_loss_that_is_told_is_the_plain_loss(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    import torch

    from vivace.store import read_examples
    from vivace.train.batches.rows import encode_examples

    facts = run(dataset, tiny_model, tmp_path, num_train_epochs=1)
    rows = encode_examples(ChatTokenizer.open(tiny_model), read_examples(dataset, "validation"), "Be kind.", 512).rows
    model = load_causal_lm(tiny_model)
    total = count = 0.0
    for row in rows:
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss
        total, count = total + float(loss) * row.learned, count + row.learned
    assert facts["validation_loss_before"] == pytest.approx(total / count, rel=1e-5)


def test_without_validation_examples_the_last_step_is_kept_and_said(tiny_model: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    facts = run(write_dataset(tmp_path, validation=0), tiny_model, tmp_path, progress=watcher, num_train_epochs=1)
    assert any("No validation examples" in text for text in watcher.said)
    assert "best_validation_loss" not in facts
    assert (tmp_path / "out" / "model" / "adapter_model.safetensors").is_file()


def test_the_libraries_say_nothing(
    dataset: Path, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(dataset, tiny_model, tmp_path, num_train_epochs=1)
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")


def test_a_loss_that_is_no_number_ends_training_with_a_sentence(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    tensors = load_file(str(broken / "model.safetensors"))
    tensors["model.norm.weight"][0] = np.nan
    save_file(tensors, str(broken / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not a finite number"):
        run(dataset, broken, tmp_path)


def test_a_dataset_without_training_rows_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    write_examples(tmp_path / "examples.jsonl", [Example("1", (Message("user", "Hi"),), split="test")])
    with pytest.raises(DataError, match="no train example"):
        run(tmp_path / "examples.jsonl", tiny_model, tmp_path)


def test_a_base_that_cannot_be_trained_is_refused(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    from tests.train.material import workspace
    from vivace.config.train import TrainSettings
    from vivace.train import tune

    base = Model("small", tiny_model, "gguf", "int4")
    with pytest.raises(ModelError, match="format 'gguf'"):
        tune(dataset, base, "", TrainSettings(), workspace(tmp_path))


def test_a_base_that_does_not_write_text_is_refused(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    reader = tmp_path / "reader"
    shutil.copytree(tiny_model, reader)
    config = json.loads((reader / "config.json").read_text()) | {"architectures": ["BertModel"]}
    (reader / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="BertModel, which does not write text"):
        run(dataset, reader, tmp_path)


def test_a_target_that_is_no_layer_is_refused_with_the_nearest_name(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'q_proj'"):
        run(dataset, tiny_model, tmp_path, lora_target_modules=["q_prj"])
    facts = run(dataset, tiny_model, tmp_path, lora_target_modules=["q_proj"], num_train_epochs=1)
    assert facts["trainable_parameters"] == 2 * 4 * (64 + 64)


def test_bfloat16_can_be_asked_for_and_adapters_stay_float32(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    facts = run(dataset, tiny_model, tmp_path, dtype="bfloat16", num_train_epochs=2)
    assert facts["dtype"] == "bfloat16"
    assert {value.dtype for value in weights(tmp_path).values()} == {np.dtype("float32")}
    assert facts["best_validation_loss"] < facts["validation_loss_before"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_bfloat16_is_what_training_computes_in(dataset: Path, tiny_model: Path, tmp_path: Path, method: str) -> None:
    losses = []
    for dtype in ("float32", "bfloat16"):
        folder = tmp_path / dtype
        run(dataset, tiny_model, folder, dtype=dtype, method=method, num_train_epochs=1, learning_rate=1e-4)
        losses.append([row["loss"] if row["step"] else row["validation_loss"] for row in history(folder)[:2]])
    for plain, coarse in zip(*losses, strict=True):
        assert coarse != plain  # before training and in it
        assert coarse == pytest.approx(plain, rel=0.03)
