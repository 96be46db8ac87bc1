"""Scoring answers: what people like is learned, length is not, and noise is not published."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.encoders.material import build_tiny_encoder
from tests.train.material import ROOT
from tests.train.preferences.reward_material import BAD, GOOD, answer, learn, prompt, write_pairs, write_ratings
from vivace.domain import Example, Message
from vivace.errors import DataError, ModelError
from vivace.models import check_data_only
from vivace.models.encoders import RewardModel
from vivace.models.encoders.reward import context_text, turn_text
from vivace.store import read_examples, write_examples
from vivace.store.files import folder_digest, read_journal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def learned(pairs: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("learned")
    return folder, learn(pairs, encoder, folder)


def test_a_planted_preference_is_learned_from_pairs(learned: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = learned
    held = facts["held_out"]
    assert facts["measured_on"] == "test"
    assert held["accuracy"]["low"] > 0.9
    assert held["shorter_liked_accuracy"]["value"] > 0.9
    assert abs(held["length_correlation"]) < 0.3
    model = RewardModel.open(folder / "out" / "model")
    check_data_only(folder / "out" / "model")
    draw = random.Random(3)
    for number in range(300, 305):
        said = [answer(word, 8, draw).content for word in (BAD, GOOD, BAD)]
        assert int(np.argmax(model.score([prompt(number)], said))) == 1
    assert model.score([prompt(1)], []) == []


def test_the_graph_scores_as_the_folders_weights_do(learned: tuple[Path, dict[str, Any]]) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder, facts = learned
    model = AutoModelForSequenceClassification.from_pretrained(folder / "out" / "model", local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "out" / "model", local_files_only=True)
    said = Message("assistant", f"{GOOD} the order is open")
    inputs = tokenizer(context_text([prompt(7)]), turn_text(said), return_tensors="pt")
    with torch.no_grad():
        raw = float(model(**inputs).logits[0, 0])
    (score,) = RewardModel.open(folder / "out" / "model").score([prompt(7)], [said.content])
    assert score == pytest.approx(facts["scale"] * raw + facts["offset"], abs=1e-3)


def test_ratings_alone_teach_the_probability_of_being_found_good(encoder: Path, tmp_path: Path) -> None:
    facts = learn(write_ratings(tmp_path), encoder, tmp_path / "run", num_train_epochs=4)
    held = facts["held_out"]
    assert facts["train_pairs"] == 0
    assert held["even_auc"]["low"] > 0.9
    assert held["calibration_error"] < 0.1
    model = RewardModel.open(tmp_path / "run" / "out" / "model")
    draw = random.Random(4)
    good, bad = model.score([prompt(3)], [answer(word, 9, draw).content for word in (GOOD, BAD)])
    assert good > 0 > bad


def test_a_planted_length_bias_is_not_learned(encoder: Path, tmp_path: Path) -> None:
    dataset = write_pairs(tmp_path, by_word=0.85, by_length=0.9)
    facts = learn(dataset, encoder, tmp_path / "even")
    assert facts["length_bias"]["pairs"]["reweighted"]
    assert facts["held_out"]["shorter_liked_accuracy"]["value"] >= 0.7
    assert facts["held_out"]["length_correlation"] < 0.75 * facts["held_out"]["liked_length_correlation"] + 0.1
    # Without the weights the same encoder learns length, agrees with few who like the shorter answer, and is refused.
    with pytest.raises(ModelError, match="not better than chance"):
        learn(dataset, encoder, tmp_path / "biased", max_length_bias=0.5)


def test_a_preference_for_length_alone_is_not_published(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="length set aside"):
        learn(write_pairs(tmp_path, by_word=0.5, by_length=0.9), encoder, tmp_path / "run", num_train_epochs=2)


def test_preferences_without_a_rule_are_not_published(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not better than chance, so it is not published: pairs told right 0\.\d+"):
        learn(write_pairs(tmp_path, by_word=0.5), encoder, tmp_path / "run", num_train_epochs=2)
    assert not (tmp_path / "run" / "out" / "model" / "reward.json").exists()


def test_too_few_raters_leave_nothing_to_learn_from(pairs: Path, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"fewer raters than min_raters \(96\)"):
        learn(pairs, encoder, tmp_path, min_raters=3)


def test_ratings_that_are_all_alike_teach_nothing(encoder: Path, tmp_path: Path) -> None:
    rows = [
        Example(f"{n}", (prompt(n), Message("assistant", f"yes {n}")), split=split, rating=1.0)
        for n in range(8)
        for split in ("train", "validation")
    ]
    write_examples(tmp_path / "preferences.jsonl", rows)
    with pytest.raises(DataError, match="rated alike"):
        learn(tmp_path, encoder, tmp_path / "run")


def test_a_killed_run_ends_with_the_same_bits(
    learned: tuple[Path, dict[str, Any]], pairs: Path, encoder: Path, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "tests.train.preferences.reward_material", *map(str, (pairs, encoder, tmp_path))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    child = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    journal = tmp_path / "scratch" / "history.jsonl"
    deadline = time.monotonic() + 200
    while len(read_journal(journal)) < 30 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.returncode == -signal.SIGKILL
    learn(pairs, encoder, tmp_path)
    files = [folder_digest(folder / "out" / "model")[1] for folder in (tmp_path, learned[0])]
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]
    rows = [[json.loads(line) for line in read_journal(f / "out" / "history.jsonl")] for f in (tmp_path, learned[0])]
    assert rows[0] == rows[1]


def test_every_row_of_the_material_is_one_pair(pairs: Path) -> None:
    assert sum(len(example.rejected) for example in read_examples(pairs / "preferences.jsonl", "train")) == 96
