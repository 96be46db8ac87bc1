"""A person looks at a dataset, corrects it, and makes the next version."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.shop import make_project, vivace

pytestmark = pytest.mark.slow


def ask(folder: Path, *words: str) -> Any:
    return json.loads(vivace("data", *words, "--project", str(folder), "--json").stdout)


def test_a_row_is_traced_corrected_and_the_versions_compared(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", tiny_model)
    chats = folder / "chats.jsonl"
    rows = chats.read_text().splitlines()
    chats.write_text("\n".join([*rows, rows[0], '{"messages": broken', ""]))
    told = vivace("data", str(folder), "--quiet").stdout
    assert "exact duplicate" in told
    assert "1 line could not be read" in told
    assert "✓ data: unchanged" in vivace("data", str(folder)).stderr

    (reject,) = ask(folder, "rejects")
    assert (reject["file"], reject["line"]) == ("chats.jsonl", len(rows) + 2)
    dropped = ask(folder, "dropped", "exact duplicate")
    assert f"chats.jsonl:{len(rows) + 1}" in [row["source"] for row in dropped]
    fate = ask(folder, "why", f"chats.jsonl:{len(rows) + 1}")
    assert fate["outcome"] == "dropped"
    assert fate["duplicate_of"]["text"]
    kept = ask(folder, "why", "chats.jsonl:1")
    assert (kept["outcome"], kept["id"]) == ("kept", fate["duplicate_of"]["id"])

    before = chats.read_bytes()
    done = ask(folder, "label", kept["id"], "outcome=escalated")
    assert done["after"] == "escalated"
    vivace("data", str(folder), "--quiet")
    assert ask(folder, "why", kept["id"])["labels"]["outcome"] == "escalated"
    assert chats.read_bytes() == before
    newest, oldest = json.loads(vivace("data", "list", str(folder), "--json").stdout)
    diff = ask(folder, "diff", oldest["id"][:12], newest["id"][:12])
    assert (diff["relabeled"], diff["added"], diff["removed"]) == (1, 0, 0)
    assert ask(folder, "show")["corrections"]["applied"] == 1
    assert (Path(newest["path"]) / "card.html").is_file()


def test_tokens_of_two_models_are_counted_side_by_side(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", tiny_model)
    vivace("data", str(folder), "--quiet")
    counted = ask(folder, "tokens", "--trim", "300")
    (model,) = counted["tokenizers"].values()
    assert counted["trimming"]
    assert json.dumps(model)
    learned = ask(folder, "tokens", "--train", str(tmp_path / "own"), "--vocab-size", "400")
    assert learned["vocab_size"] <= 400
    assert (tmp_path / "own" / "tokenizer.json").is_file()


def test_noise_makes_synthetic_conversations_that_are_shown_beside_their_origins(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_project(tmp_path / "p", tiny_model)
    words = ("--set", 'data.augment.methods=["noise"]', "--set", "data.augment.share=0.2")
    done = json.loads(vivace("data", str(folder), *words, "--json").stdout)
    facts = done["dataset"]["facts"]
    assert 0 < facts["synthetic"] <= 0.2 * facts["train"]
    assert "Synthetic conversations" in vivace("data", "show", "-p", str(folder), "--synthetic").stdout
    # Without augmentation the dataset is the one before: cleaning did not run again.
    assert "data: unchanged" in vivace("data", str(folder)).stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("why", "nobody"), "nobody"),
        (("label", "chats", "outcome"), "is not FIELD=VALUE"),
        (("diff", "zzzz"), "There is no dataset 'zzzz'"),
        (("tokens", "--train", "own", "--algorithm", "bpee"), "Did you mean 'bpe'"),
        (("dropt",), "dropt"),
    ],
)
def test_wrong_words_are_told_in_a_sentence(
    words: tuple[str, ...], sentence: str, tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_project(tmp_path / "p", tiny_model, conversations=12, tests=4)
    vivace("data", str(folder), "--quiet")
    place = () if words == ("dropt",) else ("--project", str(folder))
    done = vivace("data", *words, *place, check=False)
    assert done.returncode != 0
    assert sentence in done.stderr
