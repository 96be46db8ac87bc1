"""Training an encoder, interrupted and not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.train.encoders.material import build_tiny_encoder, teach, write_messages
from tests.train.material import ROOT, Watcher
from vivace.errors import ModelError
from vivace.models import identify
from vivace.store.files import folder_digest, read_journal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("messages"), train=12, held=6, other=4)


@pytest.fixture(scope="module")
def whole(dataset: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from start to end, undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    teach(dataset, encoder, folder, num_train_epochs=4)
    return folder


def weights(folder: Path) -> str:
    return folder_digest(folder / "out" / "model")[1]["model.safetensors"]["sha256"]  # type: ignore[return-value]


def test_a_killed_run_ends_with_the_same_bits(whole: Path, dataset: Path, encoder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.train.encoders.material", *map(str, (dataset, encoder, tmp_path))]
    command.append(json.dumps({"num_train_epochs": 4}))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    journal = tmp_path / "scratch" / "history.jsonl"
    deadline = time.monotonic() + 200
    while len(read_journal(journal)) < 13 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / "model").exists()
    watcher = Watcher()
    teach(dataset, encoder, tmp_path, progress=watcher, num_train_epochs=4)
    assert any("continues after step" in text for text in watcher.said)
    assert weights(tmp_path) == weights(whole)
    told = [json.loads(line) for line in read_journal(tmp_path / "out" / "history.jsonl")]
    assert told == [json.loads(line) for line in read_journal(whole / "out" / "history.jsonl")]


def test_another_seed_gives_other_weights(whole: Path, dataset: Path, encoder: Path, tmp_path: Path) -> None:
    teach(dataset, encoder, tmp_path, num_train_epochs=1, seed=1)
    assert weights(tmp_path) != weights(whole)


def test_training_stops_when_validation_gets_no_better(dataset: Path, encoder: Path, tmp_path: Path) -> None:
    facts = teach(dataset, encoder, tmp_path, early_stopping_patience=1, learning_rate=1e-9)
    assert facts["stopped_early"]
    assert facts["steps"] < facts["planned_steps"]


def test_frozen_layers_stay_as_they_were(dataset: Path, encoder: Path, tmp_path: Path) -> None:
    teach(dataset, encoder, tmp_path, num_train_epochs=1, freeze_layers_fraction=0.5)
    before, after = (
        load_file(encoder / "model.safetensors"),
        load_file(tmp_path / "out" / "model" / "model.safetensors"),
    )
    for name, values in before.items():
        still = name.startswith(("embeddings.", "encoder.layer.0."))
        assert (values == after[f"bert.{name}"]).all() == still, name


def test_a_loss_that_is_no_number_ends_the_run(dataset: Path, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="diverged"):
        teach(dataset, encoder, tmp_path, learning_rate=1e30, max_grad_norm=1e30)
    assert not (tmp_path / "out" / "model").exists()


def test_a_model_that_writes_text_is_no_encoder(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="LlamaForCausalLM, which is no encoder"):
        teach(dataset, tiny_model, tmp_path)


def test_an_encoder_folder_with_code_is_refused(encoder: Path, dataset: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(encoder, tmp_path / "encoder")
    (folder / "modeling.py").write_text("")
    assert identify(folder).format == "hf"
    with pytest.raises(ModelError, match=r"modeling\.py"):
        teach(dataset, folder, tmp_path / "run")
