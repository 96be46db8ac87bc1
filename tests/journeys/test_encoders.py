"""From labels and ratings to a classifier of intents and a reward model, through the command line."""

import json
from pathlib import Path

import pytest

from tests.journeys.shop import make_project, vivace
from tests.train.encoders.material import INTENTS, OTHERS, build_tiny_encoder, message
from tests.train.preferences.material import BAD, GOOD, answer, prompt

pytestmark = pytest.mark.slow


def settings(table: str, encoder: Path, **changes: object) -> list[str]:
    changes = {"encoder": str(encoder), "learning_rate": 0.003, "per_device_train_batch_size": 8, **changes}
    return [word for name, value in changes.items() for word in ("--set", f"train.{table}.{name}={value}")]


def test_labels_become_a_classifier_that_any_program_may_ask(tiny_model: Path, tmp_path: Path) -> None:
    conversations = '["chats.jsonl", "messages.jsonl"]'
    project = make_project(tmp_path / "shop", tiny_model, data__conversations=conversations, data__test="[]")
    rows = [
        {"text": message(words, number), "intent": intent}
        for intent, words in [*INTENTS.items(), ("oos", OTHERS)]
        for number in range(60)
    ]
    (project / "messages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The shop's own conversations have intents, too, each with too few messages to be learned.
    chosen = settings("intent", build_tiny_encoder(tmp_path / "encoder"), num_train_epochs=6, min_examples=10)
    told = json.loads(vivace("train", "intents", str(project), *chosen, "--json").stdout)
    assert not told["reused"]
    assert told["intents"] == 4
    assert set(told["baselines"]) == {"majority", "nearest_centroid", "logistic_regression"}
    card = json.loads((Path(told["folder"]) / "intents.json").read_bytes())
    assert set(card["labels"]) == set(INTENTS)
    again = json.loads(vivace("train", "intents", str(project), *chosen, "--json").stdout)
    assert again["reused"]
    assert again["id"] == told["id"]
    shown = vivace("train", "intents", str(project), *chosen).stdout
    assert "fine-tuned encoder" in shown
    assert "logistic regression" in shown


def test_ratings_become_a_reward_model_and_noise_does_not(tiny_model: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", tiny_model, data__conversations='["chats.jsonl", "ratings.jsonl"]')
    encoder = build_tiny_encoder(tmp_path / "encoder")

    def write(rule: bool) -> None:
        rows = [
            {
                "prompt": prompt(number).content,
                "completion": answer(word, number).content,
                "label": word == GOOD if rule else (number * 7919 + len(word)) % 3 == 0,
            }
            for number in range(150)
            for word in (GOOD, BAD)
        ]
        (project / "ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    chosen = settings("reward", encoder, num_train_epochs=6, max_length=48)
    write(rule=True)
    shown = vivace("train", "reward", str(project), *chosen).stdout
    assert "pairs told right: 1.000" in shown
    write(rule=False)
    refused = vivace("train", "reward", str(project), *chosen, check=False)
    assert refused.returncode == 4
    assert "not better than chance" in " ".join(refused.stderr.split())
