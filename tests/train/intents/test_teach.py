"""From labeled messages to a classifier that abstains where it should."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.encoders.material import INTENTS, OTHERS, build_tiny_encoder, message, teach, write_messages
from tests.train.material import Watcher
from vivace.domain import Example, Message
from vivace.errors import DataError
from vivace.models import check_data_only
from vivace.models.encoders import IntentClassifier
from vivace.store import read_examples, write_examples
from vivace.train.intents.labels import Labeled
from vivace.train.intents.teach import halves

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("messages"), held=60, other=40)


@pytest.fixture(scope="module")
def taught(dataset: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("taught")
    return folder / "out", teach(dataset, encoder, folder, threshold_target=0.9)


def test_planted_intents_are_learned_and_beat_what_needs_no_tuning(taught: tuple[Path, dict[str, Any]]) -> None:
    _out, facts = taught
    assert facts["test"]["macro_f1"]["low"] > 0.9
    assert facts["test"]["accuracy"]["value"] > 0.95
    assert facts["baselines"]["majority"]["accuracy"]["value"] == 0.25
    for name in ("majority", "nearest_centroid"):
        assert facts["baselines"][name]["macro_f1_gain"]["low"] > 0


def test_messages_out_of_scope_are_not_answered(taught: tuple[Path, dict[str, Any]]) -> None:
    out, facts = taught
    assert facts["threshold"]["kept"]
    assert facts["calibrated_on_unseen"]
    assert facts["test"]["precision"]["value"] >= 0.9
    assert facts["test"]["coverage_in_scope"]["value"] > 0.8
    assert facts["test"]["out_of_scope_recall"]["value"] > 0.8
    classifier = IntentClassifier.open(out / "model")
    (refund,) = classifier.classify([message(INTENTS["refund"], 150)])
    assert refund.intent == refund.nearest == "refund"
    others = classifier.classify([message(OTHERS, number) for number in range(150, 170)])
    silent = [guess for guess in others if guess.intent is None]
    assert len(silent) >= 10
    assert all(guess.nearest in classifier.card.labels for guess in silent)
    assert all(guess.probability < classifier.card.threshold for guess in silent)
    assert classifier.classify([]) == []
    assert len(classifier.classify([""])) == 1


def test_any_other_tool_opens_the_folder_and_sees_the_same(taught: tuple[Path, dict[str, Any]]) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    out, facts = taught
    folder = out / "model"
    check_data_only(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = ["track my parcel now 3", "can i return it", "open"]
    with torch.no_grad():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits / facts["temperature"]
    shares = IntentClassifier.open(folder).probabilities(texts)
    np.testing.assert_allclose(shares, logits.softmax(dim=1).numpy(), atol=1e-4)
    assert list(model.config.id2label.values()) == list(IntentClassifier.open(folder).card.labels)


def test_the_report_tells_each_intent_and_what_is_taken_for_what(taught: tuple[Path, dict[str, Any]]) -> None:
    out, _facts = taught
    report = json.loads((out / "report.json").read_bytes())
    assert {row["intent"] for row in report["per_intent"]} == {"refund", "track", "password", "hours"}
    assert sum(row["messages"] for row in report["per_intent"]) == report["test"]["messages"]
    wrong = round((1 - report["test"]["accuracy"]["value"]) * report["test"]["messages"])
    assert sum(row["messages"] for row in report["confused"]) == wrong


@pytest.mark.parametrize("kind", ["roberta", "distilbert"])
def test_other_families_of_encoders_work_alike(kind: str, dataset: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    encoder = build_tiny_encoder(tmp_path / "encoder", kind=kind)
    teach(dataset, encoder, tmp_path / "run", num_train_epochs=1)
    folder = tmp_path / "run" / "out" / "model"
    classifier = IntentClassifier.open(folder)
    rows = classifier._graph.tokenizer.texts(["track my parcel now 3"])
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([rows[0].ids])).logits
    np.testing.assert_allclose(classifier._graph.logits(rows), logits.numpy(), atol=1e-4)


def test_intents_that_are_too_rare_count_as_out_of_scope_and_it_is_said(encoder: Path, tmp_path: Path) -> None:
    folder = write_messages(tmp_path)
    rows = list(read_examples(folder / "queries.jsonl"))
    rows += [Example(f"r{n}", (Message("user", f"a recipe {n}"),), metadata={"intent": "cook"}) for n in range(3)]
    write_examples(folder / "queries.jsonl", rows)
    watcher = Watcher()
    facts = teach(folder, encoder, tmp_path / "run", progress=watcher, num_train_epochs=1)
    assert facts["intents"] == 4
    assert facts["rare"] == {"cook": 3}
    assert any("3 messages of 1 intents with fewer than 4" in text for text in watcher.said)


def test_labeled_conversations_are_learned_by_their_first_question(encoder: Path, tmp_path: Path) -> None:
    folder = write_messages(tmp_path)
    talks = [
        Example(f"c{n}", (Message("user", text), Message("assistant", "Yes.")), metadata={"intent": intent})
        for n, (text, intent) in enumerate([("login please", "password"), ("when do you open", "hours")])
    ]
    write_examples(folder / "examples.jsonl", talks)
    facts = teach(folder, encoder, tmp_path / "run", num_train_epochs=1)
    assert facts["messages"]["train"] == 4 * 24 + 8 + 2


def test_without_labels_the_reason_is_told(encoder: Path, tmp_path: Path) -> None:
    write_examples(tmp_path / "queries.jsonl", [Example("1", (Message("user", "hello"),))])
    with pytest.raises(DataError, match="0 intents have 4 training messages"):
        teach(tmp_path, encoder, tmp_path / "run")


def test_the_halves_of_validation_share_nothing_and_know_every_intent() -> None:
    labels = tuple(number % 50 for number in range(400))
    whole = Labeled(tuple(map(str, range(400))), tuple(map(str, range(400))), labels)
    first, second = halves(whole, 0)
    assert not set(first.ids) & set(second.ids)
    assert len(first) + len(second) == 400
    assert set(first.labels) == set(second.labels) == set(labels)
    few = whole.at(range(100))
    assert halves(few, 0) == (few, few)
