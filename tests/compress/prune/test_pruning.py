"""All steps together: what is written, what is told, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.compress.prune.material import load, make_model, write_dataset
from vivace.compress.prune.pruning import prune
from vivace.compress.prune.sample import read_sample
from vivace.config.prune import PruneSettings
from vivace.domain import Model, SilentProgress
from vivace.errors import ConfigError, DataError, ModelError
from vivace.models import ChatTokenizer
from vivace.store import read_examples, write_examples
from vivace.store.files import folder_digest
from vivace.train.batches.curriculum import row_losses
from vivace.train.batches.rows import encode_examples

ALL = {"layers": 0.5, "heads": 0.5, "channels": 0.67, "pattern": "2:4", "examples": 10, "held_out": 12}


class Told(SilentProgress):
    """Progress that keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def pruned(folder: Path, dataset: Path, out: Path, progress: Any = None, **settings: Any) -> dict[str, Any]:
    model = Model("small", folder, "hf", "fp32", license="MIT")
    shown = progress or SilentProgress()
    return prune(model, dataset, out, PruneSettings(**settings), system="Be kind.", max_length=256, progress=shown)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_model(tmp_path_factory.mktemp("prune") / "llama", tiny_model, "llama")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("prune") / "dataset")


@pytest.fixture(scope="module")
def made(source: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("prune") / "out"
    return out, pruned(source, dataset, out, **ALL)


def held_out_loss(folder: Path, dataset: Path) -> float:
    """The loss per answer token of the validation split, by training's own code, a conversation at a time."""
    held = list(read_examples(dataset / "examples.jsonl", "validation"))
    rows = encode_examples(ChatTokenizer.open(folder), held, "Be kind.", 256).rows
    model = load(folder)
    total = sum(row_losses(model, [row])[0] * row.learned for row in rows)
    return total / sum(row.learned for row in rows)


def test_the_losses_told_are_those_of_the_folders(
    made: tuple[Path, dict[str, Any]], source: Path, dataset: Path
) -> None:
    out, facts = made
    assert facts["loss_before"] == pytest.approx(held_out_loss(source, dataset), rel=1e-4)
    assert facts["loss"] == pytest.approx(held_out_loss(out, dataset), rel=1e-4)
    low, high = facts["interval"]
    assert low <= facts["loss_change"] <= high
    assert facts["loss_change"] == pytest.approx(facts["loss"] - facts["loss_before"], abs=2e-6)


def test_the_steps_follow_one_another(made: tuple[Path, dict[str, Any]]) -> None:
    out, facts = made
    steps = json.loads((out / "prune.json").read_text())["steps"]
    assert [step["step"] for step in steps] == ["layers", "width", "weights"]
    assert [step["loss_before"] for step in steps] == [facts["loss_before"], steps[0]["loss"], steps[1]["loss"]]
    assert steps[2]["loss"] == facts["loss"]
    model = load(out)
    assert facts["parameters"] == sum(part.numel() for part in model.parameters()) == steps[1]["parameters"]
    assert facts["parameters_before"] > steps[0]["parameters"] > steps[1]["parameters"]
    assert facts["size_bytes"] < facts["size_bytes_before"]
    assert len(model.model.layers) == len(steps[0]["kept"]) == 2
    assert steps[1]["has"] == {"heads": 4, "groups": 2, "channels": 64}
    assert steps[2]["zeros"] == 0.5
    assert all(told.startswith("none: ") for told in steps[2]["engines"].values())
    numbers = json.loads((out / "importance.json").read_text())
    assert len(numbers["layers"]["loss_without"]) == 4
    assert len(numbers["width"]["channels_taylor"][1]) == 96


def test_the_same_model_pruned_again_is_the_same_to_the_last_byte(
    made: tuple[Path, dict[str, Any]], source: Path, dataset: Path, tmp_path: Path
) -> None:
    out, facts = made
    assert pruned(source, dataset, tmp_path / "again", **ALL) == facts
    assert folder_digest(tmp_path / "again") == folder_digest(out)


def test_the_loss_is_measured_on_other_conversations_than_importance(
    source: Path, dataset: Path, tmp_path: Path
) -> None:
    def conversations(folder: Path) -> tuple[str, set[Any], set[Any]]:
        found = read_sample(folder, source, "", PruneSettings(examples=10), 256)
        sets = [{tuple(row) for b in part for row in b.ids.tolist()} for part in (found.calibration, found.held_out)]
        return found.facts["held_out_split"], *sets

    split, judged, measured = conversations(dataset)
    assert split == "validation"
    assert (len(judged), len(measured)) == (10, 12)
    assert not judged & measured
    train = [row for row in read_examples(dataset / "examples.jsonl", "train")]
    write_examples(tmp_path / "examples.jsonl", train)
    split, judged, measured = conversations(tmp_path)
    assert split == "train"
    assert (len(judged), len(measured)) == (10, 10)
    assert not judged & measured
    write_examples(tmp_path / "examples.jsonl", train[:1])
    with pytest.raises(DataError, match="too few"):
        conversations(tmp_path)


def test_what_cannot_be_pruned_is_refused_and_leaves_nothing(source: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="removes nothing"):
        pruned(source, dataset, tmp_path / "out")
    with pytest.raises(ConfigError, match="removes nothing of llama"):
        pruned(source, dataset, tmp_path / "out", layers=0.99)
    with pytest.raises(ModelError, match="'gguf'"):
        prune(
            Model("m", source, "gguf", "int8"), dataset, tmp_path / "out", PruneSettings(layers=0.5),
            progress=SilentProgress(),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
    for wrong in ({"layers": 0}, {"channels": 1.2}, {"sparsity": 1}, {"pattern": "4:2"}, {"pattern": "x"}):
        with pytest.raises(ValidationError):
            PruneSettings(**wrong)  # type: ignore[arg-type]


def test_each_step_and_what_removes_nothing_are_said(source: Path, dataset: Path, tmp_path: Path) -> None:
    progress = Told()
    pruned(source, dataset, tmp_path / "out", progress, layers=0.99, channels=0.67, correct=False, examples=4)
    assert any("0.99 of 4 layers is all of them" in text for text in progress.said)
    assert any(text.startswith("Pruned width:") and "domain loss" in text for text in progress.said)
