"""Learning from preferences, interrupted and not, from a tuned model to one that answers as people like."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.train.material import Watcher
from tests.train.preferences.material import BAD, GOOD, adapter_folder, compared, learn, rated, write_preferences
from vivace.domain import Model
from vivace.errors import ConfigError, DataError, ModelError
from vivace.models import check_data_only, identify, load_causal_lm, load_with_adapter
from vivace.store import write_examples
from vivace.store.files import folder_digest, read_journal

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tuned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return adapter_folder(tiny_model, tmp_path_factory.mktemp("tuned") / "model")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_preferences(tmp_path_factory.mktemp("pairs"), pairs=True)


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_preferences(tmp_path_factory.mktemp("ratings"), pairs=False)


@pytest.fixture(scope="module")
def aligned(
    pairs: Path, tuned: Model, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A run of KTO from start to end, undisturbed."""
    folder = tmp_path_factory.mktemp("aligned")
    return folder, learn(pairs, tuned, tiny_model, folder, method="kto", num_train_epochs=1)


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_journal(folder / "out" / "history.jsonl")]


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_what_people_like_is_learned_and_holds_on_other_prompts(
    method: str, pairs: Path, tuned: Model, tiny_model: Path, tmp_path: Path
) -> None:
    facts = learn(pairs, tuned, tiny_model, tmp_path, method=method)
    held = facts["held_out"]
    assert held["reward_accuracy_before"] == held["reward_auc_before"] == 0.5
    assert 0.4 < held["likelihood_auc_before"]["value"] < 0.65
    for name in ("reward_accuracy", "reward_auc", "likelihood_auc"):
        assert held[name]["value"] > 0.9, name
        assert held[name]["low"] > 0.8, name
    assert held["reward_margin"] > 0.5
    assert facts["best_validation_loss"] < facts["validation_loss_before"] / 2


def test_kto_learns_from_ratings_alone(ratings: Path, tuned: Model, tiny_model: Path, tmp_path: Path) -> None:
    facts = learn(ratings, tuned, tiny_model, tmp_path, method="kto")
    assert facts["good"] + facts["bad"] == 48
    assert facts["held_out"]["reward_auc"]["value"] > 0.9
    assert facts["held_out"]["likelihood_auc_gain"]["low"] > 0.1


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_what_nobody_agrees_on_is_not_learned(method: str, tuned: Model, tiny_model: Path, tmp_path: Path) -> None:
    shuffled = write_preferences(tmp_path / "data", pairs=True, shuffled=True)
    watcher = Watcher()
    facts = learn(shuffled, tuned, tiny_model, tmp_path, watcher, method=method)
    assert facts["held_out"]["reward_accuracy"]["value"] < 0.75
    assert facts["held_out"]["reward_auc"]["value"] < 0.75
    losses = [row["validation_loss"] for row in history(tmp_path) if "validation_loss" in row]
    assert min(losses) > 0.9 * losses[0]
    # Nothing was better than the tuned model: it is passed on as it is, and that is said.
    assert facts["kept_step"] == 0
    assert any("stays as it was" in text for text in watcher.said)
    assert folder_digest(tmp_path / "out" / "model") == folder_digest(tuned.path)


def test_the_made_model_gives_what_the_facts_say(
    pairs: Path, tuned: Model, tiny_model: Path, aligned: tuple[Path, dict[str, Any]]
) -> None:
    from vivace.models import ChatTokenizer
    from vivace.store import read_examples
    from vivace.train.preferences.loss import AnswerProbabilities
    from vivace.train.preferences.rows import gather_preferences
    from vivace.train.preferences.trainer import measure

    folder, facts = aligned
    examples = read_examples(pairs / "preferences.jsonl", "validation")
    held = gather_preferences(ChatTokenizer.open(tiny_model), examples, "Be kind.", 512, 1)
    models = [load_with_adapter(path, tiny_model) for path in (tuned.path, folder / "out" / "model")]
    before, after = (measure(AnswerProbabilities(model, "float32"), held.answers, 4) for model in models)
    assert float((after - before).mean()) == pytest.approx(facts["held_out"]["mean_log_ratio"], rel=1e-4)
    chosen, rejected = [p.chosen for p in held.pairs], [p.rejected for p in held.pairs]
    margin = 0.1 * float(((after - before)[chosen] - (after - before)[rejected]).mean())
    assert margin == pytest.approx(facts["held_out"]["reward_margin"], rel=1e-4)


def test_the_history_has_a_row_a_step_and_nothing_is_pickled(aligned: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = aligned
    rows = history(folder)
    assert [row["step"] for row in rows] == list(range(facts["steps"] + 1))
    assert set(rows[1]) == {"step", "tokens", "loss", "reward_margin", "learning_rate"}
    assert rows[0]["validation_loss"] == facts["validation_loss_before"] == 0.5
    assert min(row.get("validation_loss", 9) for row in rows) == facts["best_validation_loss"]
    assert rows[-1]["tokens"] == facts["tokens"]
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        ".json",
        ".jsonl",
        ".safetensors",
        ".jinja",
    }
    check_data_only(folder / "out" / "model")
    for path in (folder / "out").rglob("*.json*"):
        assert str(folder.parent) not in path.read_text(), path


def test_a_run_killed_in_the_middle_ends_with_the_same_bits(
    pairs: Path, tuned: Model, tiny_model: Path, aligned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    told = list(map(str, (pairs, tuned.path, tiny_model, tmp_path)))
    command = [sys.executable, "-m", "tests.train.preferences.material", *told, "kto", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}

    def killed_when(reached: Any) -> None:
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 100
        while not reached() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert child.returncode == -signal.SIGKILL, child.stderr.read() if child.stderr else ""

    def measured() -> list[bytes]:
        return [line for path in (tmp_path / "scratch").glob("reference-*.jsonl") for line in read_journal(path)]

    killed_when(lambda: len(measured()) > 5)
    first = measured()
    assert not (tmp_path / "scratch" / "history.jsonl").exists()
    killed_when(lambda: len(read_journal(tmp_path / "scratch" / "history.jsonl")) > 9)
    assert measured()[: len(first)] == first
    assert not (tmp_path / "out" / "model").exists()
    facts = learn(pairs, tuned, tiny_model, tmp_path, method="kto", num_train_epochs=1)
    assert folder_digest(tmp_path / "out")[0] == folder_digest(aligned[0] / "out")[0]
    assert facts | {"seconds": 0} == aligned[1] | {"seconds": 0}


def test_ctrl_c_keeps_the_step_at_hand_and_the_next_run_goes_on(
    pairs: Path, tuned: Model, tiny_model: Path, aligned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    def interrupt(notes: int) -> None:
        if notes == 5:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            learn(pairs, tuned, tiny_model, tmp_path, Watcher(interrupt), method="kto", num_train_epochs=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "scratch" / "checkpoint-5").is_dir()
    watcher = Watcher()
    learn(pairs, tuned, tiny_model, tmp_path, watcher, method="kto", num_train_epochs=1)
    assert watcher.notes == aligned[1]["steps"] - 5
    assert folder_digest(tmp_path / "out")[0] == folder_digest(aligned[0] / "out")[0]


def test_the_reference_is_measured_once(pairs: Path, tuned: Model, tiny_model: Path, tmp_path: Path) -> None:
    learn(pairs, tuned, tiny_model, tmp_path, method="dpo", num_train_epochs=1)
    (journal,) = (tmp_path / "scratch").glob("reference-*.jsonl")
    before = journal.read_bytes()
    learn(pairs, tuned, tiny_model, tmp_path, method="dpo", num_train_epochs=1)
    assert journal.read_bytes() == before
    # Other settings are another run, with a journal and checkpoints of its own.
    learn(pairs, tuned, tiny_model, tmp_path, method="dpo", num_train_epochs=1, beta=0.2)
    assert len(list((tmp_path / "scratch").glob("reference-*.jsonl"))) == 2


def test_numbers_that_break_end_the_run_before_they_are_kept(
    pairs: Path, tuned: Model, tiny_model: Path, tmp_path: Path
) -> None:
    watcher = Watcher()
    with pytest.raises(ModelError, match="diverged after step"):
        learn(pairs, tuned, tiny_model, tmp_path, watcher, method="dpo", learning_rate=1e30, eval_steps_fraction=1.0)
    assert not (tmp_path / "out" / "model").exists()


@pytest.fixture
def too_fast(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From a step on, let learning rates above a limit blow up the weights, so that the next products overflow."""

    def limit(rate: float, step: int) -> None:
        plain = torch.optim.AdamW.step

        def take(self: Any, closure: Any = None) -> Any:
            done = plain(self, closure)
            for group in self.param_groups:
                for p in group["params"]:
                    if group["lr"] > rate and int(self.state[p]["step"]) >= step:
                        with torch.no_grad():
                            p.mul_(1e36)
            return done

        monkeypatch.setattr(torch.optim.AdamW, "step", take)

    return limit


@pytest.mark.parametrize("held", [0, 16])
def test_numbers_that_break_lead_back_to_the_last_checkpoint_and_on_at_half_the_rate(
    held: int, tuned: Model, tiny_model: Path, tmp_path: Path, too_fast: Any
) -> None:
    data = write_preferences(tmp_path / "data", pairs=True, train=16, held=held)
    too_fast(3e-3, 2)
    watcher = Watcher()
    steady: dict[str, Any] = {"lr_scheduler_type": "constant", "warmup_ratio": 0.0, "eval_steps_fraction": 0.25}
    steady |= {"learning_rate": 4e-3, "early_stopping_patience": 9}
    facts = learn(data, tuned, tiny_model, tmp_path, watcher, method="dpo", num_train_epochs=1, **steady)
    assert (facts["rolled_back"], facts["diverged_after_step"], facts["learning_rate"]) == (1, 2, 2e-3)
    assert facts["steps"] == facts["planned_steps"]
    assert any("diverged after step 2" in text and "0.002 in the end" in text for text in watcher.said)
    assert [row["step"] for row in history(tmp_path)] == list(range(facts["steps"] + 1))
    made = load_file(str(tmp_path / "out" / "model" / "adapter_model.safetensors"))
    assert all(np.isfinite(value).all() for value in made.values())


def test_after_two_setbacks_it_stops_and_publishes_nothing(
    tuned: Model, tiny_model: Path, tmp_path: Path, too_fast: Any
) -> None:
    data = write_preferences(tmp_path / "data", pairs=True, train=16, held=0)
    too_fast(1e-9, 3)
    steady: dict[str, Any] = {"lr_scheduler_type": "constant", "warmup_ratio": 0.0, "learning_rate": 4e-3}
    with pytest.raises(ModelError, match="diverged after step 3"):
        learn(data, tuned, tiny_model, tmp_path, method="dpo", num_train_epochs=1, **steady)
    assert not (tmp_path / "out" / "model").exists()


def test_a_model_whose_numbers_are_broken_is_refused(pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    tensors = load_file(str(broken / "model.safetensors"))
    tensors["model.norm.weight"][0] = np.nan
    save_file(tensors, str(broken / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not a finite number"):
        learn(pairs, Model("tuned", broken, "hf", "fp32"), broken, tmp_path, method="dpo")


def test_a_full_model_stays_a_full_model(pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    tuned = Model("tuned", tiny_model, "hf", "fp32")
    facts = learn(pairs, tuned, tiny_model, tmp_path, method="dpo", learning_rate=1e-3)
    made = identify(tmp_path / "out" / "model")
    assert made.format == "hf"
    assert facts["trainable_parameters"] == sum(p.numel() for p in load_causal_lm(made.path).parameters())
    assert facts["held_out"]["reward_accuracy"]["value"] > 0.9


def test_virtual_tokens_learn_preferences_too(pairs: Path, tiny_model: Path, tmp_path: Path) -> None:
    tuned = adapter_folder(tiny_model, tmp_path / "tuned", "prompt_tuning")
    facts = learn(pairs, tuned, tiny_model, tmp_path, method="dpo", learning_rate=3e-2, num_train_epochs=2)
    assert facts["trainable_parameters"] == 4 * 64
    assert facts["best_validation_loss"] < facts["validation_loss_before"]
    before, after = (load_file(str(f / "adapter_model.safetensors")) for f in (tuned.path, tmp_path / "out" / "model"))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)


def test_bfloat16_can_be_asked_for(pairs: Path, tuned: Model, tiny_model: Path, tmp_path: Path) -> None:
    facts = learn(pairs, tuned, tiny_model, tmp_path, method="dpo", num_train_epochs=1, dtype="bfloat16")
    assert facts["dtype"] == "bfloat16"
    assert facts["best_validation_loss"] < facts["validation_loss_before"]
    weights = load_file(str(tmp_path / "out" / "model" / "adapter_model.safetensors"))
    assert {value.dtype for value in weights.values()} == {np.dtype("float32")}


def test_length_bias_and_numbers_are_told(tuned: Model, tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        rated(number, "train", f"{word}, thank you very much" if long else word, float(word == GOOD))
        for number in range(24)
        for word, long in ((GOOD, number % 4 != 0), (BAD, number % 6 == 0))
        if word == GOOD or number % 2 == 0
    ]
    write_examples(tmp_path / "preferences.jsonl", rows)
    watcher = Watcher()
    facts = learn(tmp_path, tuned, tiny_model, tmp_path, watcher, method="kto", num_train_epochs=0.2)
    assert (facts["good"], facts["bad"]) == (24, 12)
    assert (facts["desirable_weight"], facts["left_out"]) == (1.0, {})
    assert facts["length_bias"]["reweighted"]
    assert facts["length_bias"]["longer_preferred"] > 0.6
    assert any("The longer answer is preferred" in text for text in watcher.said)


def test_gradients_added_up_over_small_batches_are_those_of_a_large_one(
    pairs: Path, tuned: Model, tiny_model: Path, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"method": "dpo", "num_train_epochs": 0.34, "learning_rate": 1e-4}
    losses = []
    for rows, accumulation in ((16, 1), (4, 4)):
        folder = tmp_path / str(rows)
        changes = common | {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation}
        learn(pairs, tuned, tiny_model, folder, **changes)
        losses.append(next(row["loss"] for row in history(folder) if "loss" in row))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_material_that_teaches_nothing_is_refused(tuned: Model, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no preferences\.jsonl"):
        learn(tmp_path, tuned, tiny_model, tmp_path)
    with pytest.raises(ConfigError, match='"none"'):
        learn(tmp_path, tuned, tiny_model, tmp_path, method="none")
    alike = [compared(number, "train", GOOD, GOOD) for number in range(3)]
    write_examples(tmp_path / "preferences.jsonl", alike)
    with pytest.raises(DataError, match="no pair"):
        learn(tmp_path, tuned, tiny_model, tmp_path, method="dpo")
    with pytest.raises(DataError, match="good and bad"):
        learn(tmp_path, tuned, tiny_model, tmp_path, method="kto")


def test_without_held_out_preferences_the_last_step_is_kept_and_said(
    tuned: Model, tiny_model: Path, tmp_path: Path
) -> None:
    write_examples(tmp_path / "preferences.jsonl", [compared(number, "train") for number in range(8)])
    watcher = Watcher()
    facts = learn(tmp_path, tuned, tiny_model, tmp_path, watcher, method="dpo", num_train_epochs=1)
    assert any("No preferences to validate on" in text for text in watcher.said)
    assert facts["held_out"] is None
    assert facts["kept_step"] == facts["steps"] == 2


def test_the_libraries_say_nothing(
    pairs: Path, tuned: Model, tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    learn(pairs, tuned, tiny_model, tmp_path, method="dpo", num_train_epochs=0.1)
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")
