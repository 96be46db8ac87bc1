"""Off topic: planted strangers leave, the rest and all held-out rows stay."""

from pathlib import Path

import pytest

from tests.data.labeled import corpus_of, planted, row
from vivace.config.data import DataSettings
from vivace.data.rows import Row
from vivace.data.steps.off_topic import STEP, clean
from vivace.data.trail import StepTrail
from vivace.errors import ConfigError, VivaceError
from vivace.index.embedders import Embedder, open_embedder

STRANGERS = (
    "The mitochondrion is the powerhouse of eukaryotic biology",
    "Which knight opened the jousting tournament in medieval Burgundy?",
    "Integrate sine squared over the real interval by parts",
    "Volcanic islands rise where tectonic plates diverge slowly",
    "Sing a lullaby about dragons and purple umbrellas",
    "Who won the chess championship in nineteen seventy two?",
)


def rows() -> list[Row]:
    texts, _topics = planted(40)
    kept = [row(text, "I see.", id=f"in-{place}") for place, text in enumerate(texts)]
    strange = [row(text, "Hm.", id=f"out-{place}") for place, text in enumerate(STRANGERS)]
    held = row(STRANGERS[0], "Hm.", id="held", held_out=True)
    return [*kept[:80], *strange, held, row("", "An answer", id="empty"), *kept[80:]]


def left(embedder: Embedder, folder: Path, **settings: object) -> tuple[list[str], StepTrail]:
    corpus = corpus_of(rows(), folder)
    trail = StepTrail("off_topic")
    clean(corpus, trail, DataSettings.model_validate(settings), embedder)
    ids = [kept.example.id for _place, kept in corpus.rows()]
    corpus.close()
    return ids, trail


def test_strangers_leave_and_the_others_stay(tmp_path: Path) -> None:
    ids, trail = left(open_embedder("words"), tmp_path, min_relevance=0.2)
    assert not [name for name in ids if name.startswith("out-")]
    assert len([name for name in ids if name.startswith("in-")]) >= 158
    assert {"held", "empty"} <= set(ids)
    assert trail.drops["off topic"] == 168 - len(ids)
    assert trail.changes["openings embedded"] == 166


def test_the_groups_may_come_from_a_sample(tmp_path: Path) -> None:
    ids, trail = left(open_embedder("words"), tmp_path, min_relevance=0.2, label={"max_embedded": 90})
    assert not [name for name in ids if name.startswith("out-")]
    assert len([name for name in ids if name.startswith("in-")]) >= 156
    assert trail.changes["openings embedded"] == 166


def test_a_wrong_embedder_is_told_before_any_work() -> None:
    with pytest.raises(ConfigError, match="no embedder 'word'"):
        STEP.open(DataSettings.model_validate({"label": {"embedder": "word"}}))


def test_nothing_asked_for_means_nothing_done(tmp_path: Path) -> None:
    corpus = corpus_of(rows(), tmp_path)
    settings = DataSettings.model_validate({"min_relevance": 0, "label": {"embedder": "words"}})
    STEP.open(settings)(corpus, StepTrail("off_topic"))
    assert len(corpus) == 168
    corpus.close()


@pytest.mark.real
def test_strangers_are_found_with_the_default_embedder(tmp_path: Path) -> None:
    try:
        minilm = open_embedder("minilm")
    except VivaceError as error:
        pytest.skip(f"the real embedder cannot be had here: {error}")
    ids, _trail = left(minilm, tmp_path, min_relevance=0.3)
    assert not [name for name in ids if name.startswith("out-")]
    assert len([name for name in ids if name.startswith("in-")]) == 160
