"""Suspicious labels: planted mistakes come first, and what cannot be checked is said."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.labeled import corpus_of, planted, row
from vivace.config.data import DataSettings
from vivace.data.labels.suspects import find_suspects, rank_suspects
from vivace.index.embedders import open_embedder

WORDS = open_embedder("words")


@pytest.fixture(scope="module")
def flipped() -> tuple[list[str], list[str], list[str], set[int]]:
    """Texts, their labels with one in twenty wrong, the right labels, the places of the wrong ones."""
    texts, right = planted(50)
    random = np.random.default_rng(5)
    wrong = set(random.permutation(len(texts))[: len(texts) // 20].tolist())
    names = sorted(set(right))
    labels = [
        names[(names.index(label) + 1) % len(names)] if place in wrong else label for place, label in enumerate(right)
    ]
    return texts, labels, right, wrong


def test_planted_mistakes_come_first_with_the_right_suggestion(
    flipped: tuple[list[str], list[str], list[str], set[int]],
) -> None:
    texts, labels, right, wrong = flipped
    found = rank_suspects(texts, labels, WORDS)
    first = [suspect.place for suspect in found.found[: len(wrong)]]
    assert len(wrong & set(first)) >= 0.9 * len(wrong)
    assert all(suspect.suggested == right[suspect.place] for suspect in found.found if suspect.place in wrong)
    assert found.checked == len(texts)
    assert 0 < found.likely <= 2 * len(wrong)
    assert [suspect.score for suspect in found.found] == sorted((s.score for s in found.found), reverse=True)
    assert rank_suspects(texts, labels, WORDS) == found


def test_right_labels_raise_no_suspicion() -> None:
    texts, labels = planted(40)
    assert len(rank_suspects(texts, labels, WORDS).found) <= 2


def test_labels_with_too_few_texts_are_named_and_not_checked() -> None:
    texts, labels = planted(20)
    found = rank_suspects([*texts, "rare thing", "rare thing too"], [*labels, "rare", "rarer"], WORDS)
    assert found.checked == len(texts)
    assert found.note == "2 labels have fewer than 5 conversations and were not checked (2 rows): rare, rarer."
    assert all(suspect.label not in ("rare", "rarer") for suspect in found.found)


@pytest.mark.parametrize("labels", [[], ["a"] * 12, ["a"] * 8 + ["b"] * 4])
def test_one_label_cannot_be_checked_and_says_so(labels: list[str]) -> None:
    found = rank_suspects([f"text {number}" for number in range(len(labels))], labels, WORDS)
    assert (found.found, found.checked) == ([], 0)
    assert "takes two" in found.note


def test_rows_of_the_file_lead_back_to_the_conversation(
    flipped: tuple[list[str], list[str], list[str], set[int]], tmp_path: Path
) -> None:
    texts, labels, _right, wrong = flipped
    rows = [
        row(text, "I see.", id=f"row-{place}", intent=label)
        for place, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    corpus = corpus_of([*rows, row("no label at all, none", "I see.", id="bare")], tmp_path)
    found, note = find_suspects(corpus, DataSettings(), WORDS, "intent")
    corpus.close()
    assert note == ""
    assert list(found[0]) == ["id", "field", "label", "suggested", "score", "text"]
    place = int(found[0]["id"].removeprefix("row-"))
    assert place in wrong
    assert (found[0]["field"], found[0]["label"]) == ("intent", labels[place])
