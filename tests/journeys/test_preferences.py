"""From rated answers to a released model, through the command line."""

import json
from pathlib import Path

import pytest

from tests.journeys.shop import make_project, vivace
from tests.train.preferences.material import BAD, GOOD, answer, prompt

pytestmark = pytest.mark.slow


def manifests(project: Path, stage: str) -> list[dict[str, object]]:
    found = [json.loads(path.read_text()) for path in project.glob(".vivace/artifacts/*/*/manifest.json")]
    return [manifest for manifest in found if manifest["origin"]["stage"] == stage]


def test_ratings_are_learned_after_the_conversations_and_training_is_not_done_again(
    tiny_model: Path, tmp_path: Path
) -> None:
    project = make_project(tmp_path / "shop", tiny_model, data__conversations='["chats.jsonl", "ratings.jsonl"]')
    rows = [
        {"prompt": prompt(n).content, "completion": answer(word, n).content, "label": word == GOOD}
        for n in range(60)
        for word in (GOOD, BAD)
    ]
    (project / "ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vivace("train", str(project))
    assert not manifests(project, "align")
    changes = [
        word for change in ("method=kto", "learning_rate=0.01") for word in ("--set", f"train.preference.{change}")
    ]
    told = json.loads(vivace("train", str(project), *changes, "--json").stdout)
    assert told["worked"] == ["align"]
    (made,) = manifests(project, "align")
    assert told["aligned"]["id"] == made["id"]
    held = told["aligned"]["facts"]["held_out"]
    assert held["reward_auc"]["value"] > 0.9
    vivace("compress", str(project), *changes)
    (merged,) = manifests(project, "merge")
    assert made["id"] in merged["origin"]["parents"]
