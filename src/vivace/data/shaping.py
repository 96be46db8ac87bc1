"""Shape the training split: the most useful conversations, classes made even."""

import hashlib
from collections import Counter
from typing import Any

import numpy as np
from msgspec import Struct, field

from vivace.config.data import DataSettings
from vivace.data.balance.curation import choose_useful
from vivace.data.balance.quality import quality
from vivace.data.balance.rebalance import rebalance
from vivace.data.corpus import Corpus
from vivace.data.labels.openings import opening
from vivace.data.labels.topics import sample_places
from vivace.data.split import OUT, SPLITS, TRAIN
from vivace.data.trail import StepTrail
from vivace.index.embedders import Embedder
from vivace.text import normalize_words

STEP = "balance"
MAX_CHOSEN_FROM = 20_000  # conversations that are embedded and compared


class Shape(Struct):
    """How often (by place, 1 if not named) and with what weight rows are learned from; `sections` for the report.

    `unexamined` are places of the test split that are preferences only.
    """

    copies: dict[int, int] = field(default_factory=dict)
    weights: dict[int, float] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    unexamined: set[int] = field(default_factory=set)


def shape_training(
    corpus: Corpus,
    splits: np.ndarray,
    settings: DataSettings,
    embedder: Embedder | None,
    suspects: list[dict[str, Any]],
) -> tuple[Shape, StepTrail]:
    """Choose and even out what is trained on; rows that leave are dropped, and their places in `splits` are `OUT`."""
    shape = Shape()
    trail = StepTrail(STEP)
    trail.rows_in = len(corpus)
    if settings.balance.keep_best is not None and embedder is not None:
        shape.sections["curation"] = _curate(corpus, splits, settings, embedder, suspects, trail)
    if settings.balance.by:
        _even(corpus, splits, settings, shape, trail)
    trail.rows_out = len(corpus)
    return shape, trail


def _curate(
    corpus: Corpus,
    splits: np.ndarray,
    settings: DataSettings,
    embedder: Embedder,
    suspects: list[dict[str, Any]],
    trail: StepTrail,
) -> dict[str, Any]:
    wanted = settings.balance.keep_best or 0
    train = np.array(
        [place for place in np.flatnonzero(splits == TRAIN) if not corpus.row(int(place)).is_query], np.int64
    )
    if len(train) <= wanted:
        return {}
    places = sample_places(train, max(MAX_CHOSEN_FROM, wanted), settings.seed)
    for place in map(int, np.setdiff1d(train, places)):
        _leave(corpus, splits, place, trail, "outside of the sample that the best were chosen from", "")
    rows = [corpus.row(int(place)) for place in places]
    doubts = {suspect["id"]: suspect["score"] for suspect in suspects}
    answers = [_key(row.example.reference) for row in rows]
    repeats = Counter(answers)
    qualities = [
        quality(row, doubt=doubts.get(row.example.id, 0.0), repeats=repeats[answer])
        for row, answer in zip(rows, answers, strict=True)
    ]
    topics = [str(row.example.metadata.get("topic") or row.example.metadata.get("intent") or "") for row in rows]
    vectors = embedder.embed([opening(row.example.messages) for row in rows])
    curation = choose_useful(vectors, qualities, wanted, settings.seed, topics)
    chosen = set(curation.chosen)
    for index, place in enumerate(map(int, places)):
        if index not in chosen:
            _leave(corpus, splits, place, trail, "less useful than those chosen", f"quality {qualities[index]:.2f}")
    return {"wanted": wanted, "from": len(train), "curve": curation.curve}


def _even(corpus: Corpus, splits: np.ndarray, settings: DataSettings, shape: Shape, trail: StepTrail) -> None:
    places: list[int] = []
    keys: list[str] = []
    for place, row in corpus.rows():
        value = row.example.metadata.get(settings.balance.by)
        places.append(place)
        keys.append("" if value is None or row.is_query else str(value))
    found = rebalance(keys, [SPLITS[splits[place]] for place in places], settings.balance, settings.seed)
    for index, place in enumerate(places):
        copies, weight = int(found.copies[index]), float(found.weights[index])
        if not copies:
            _leave(corpus, splits, place, trail, f"left out to even {settings.balance.by}", keys[index])
        elif copies > 1:
            shape.copies[place] = copies
        if weight != 1.0:
            shape.weights[place] = round(weight, 4)
    if found.note:
        trail.changes[found.note] = 1
    shape.sections["rebalancing"] = {"by": settings.balance.by, "method": settings.balance.method, "note": found.note}


def _leave(corpus: Corpus, splits: np.ndarray, place: int, trail: StepTrail, reason: str, detail: str) -> None:
    splits[place] = OUT
    corpus.drop(place, trail, reason, detail)


def _key(text: str) -> bytes:
    return hashlib.blake2b(" ".join(normalize_words(text)).encode(errors="surrogatepass"), digest_size=8).digest()
