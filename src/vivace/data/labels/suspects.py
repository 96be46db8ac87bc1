"""Labels that look wrong, ranked for a person to check: confident learning with cleanlab.

Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels". The probabilities come from a
logistic regression on embeddings, each for texts that it has not learned from.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.corpus.corpus import Corpus
from vivace.data.labels.openings import opening
from vivace.data.labels.topics import OTHER, sample_places
from vivace.index.embedders import Embedder

FOLDS = 5
INVERSE_PENALTY = 3.0
MAX_NAMED = 5


class Suspect(Struct, frozen=True):
    """A label that looks wrong: the text's place in what was checked, and how sure, from 0 to 1, that it is wrong."""

    place: int
    label: str
    suggested: str
    score: float


class Suspects(Struct, frozen=True):
    """Suspects, the surest first, how many labels were checked, and a sentence on those that could not be.

    `likely` estimates how many labels are wrong; more are listed, since a person decides.
    """

    found: list[Suspect]
    checked: int
    likely: int = 0
    note: str = ""


def rank_suspects(texts: Sequence[str], labels: Sequence[str], embedder: Embedder, seed: int = 0) -> Suspects:
    """Return the labels that other texts speak against; a label of fewer than five texts cannot be checked."""
    sizes = Counter(labels)
    few = sorted(label for label, size in sizes.items() if size < FOLDS)
    places = [place for place, label in enumerate(labels) if sizes[label] >= FOLDS]
    note = _note(few, len(labels) - len(places), len(sizes) - len(few))
    names = sorted(set(sizes) - set(few))
    if len(names) < 2:
        return Suspects([], 0, note=note)
    numbers = np.searchsorted(names, [labels[place] for place in places])
    probabilities = _out_of_sample(embedder.embed([texts[place] for place in places]), numbers, seed)
    told = probabilities.argmax(axis=1)
    doubts = 1 - probabilities[np.arange(len(numbers)), numbers]
    found = [
        Suspect(places[wrong], names[numbers[wrong]], names[told[wrong]], round(float(doubts[wrong]), 4))
        for wrong in np.flatnonzero(told != numbers)
    ]
    found.sort(key=lambda suspect: (-suspect.score, suspect.place))
    return Suspects(found, len(places), _likely(numbers, probabilities), note)


def find_suspects(
    corpus: Corpus, settings: DataSettings, embedder: Embedder, field: str
) -> tuple[list[dict[str, Any]], str]:
    """Return rows of `suspects.jsonl` for the labels in metadata under `field`, the surest first, and a note.

    At most `label.max_embedded` conversations are checked, a seeded sample; the topic `other` is never suspected.
    """
    labels = {
        place: str(row.example.metadata[field])
        for place, row in corpus.rows()
        if row.example.metadata.get(field) not in (None, "", OTHER)
    }
    places = sample_places(np.array(list(labels), np.int64), settings.label.max_embedded, settings.seed).tolist()
    rows = list(corpus.rows(places))
    texts = [opening(row.example.messages) for _place, row in rows]
    suspects = rank_suspects(texts, [labels[place] for place in places], embedder, settings.seed)
    return list(suspect_rows(suspects, field, [row.example.id for _place, row in rows], texts)), suspects.note


def suspect_rows(suspects: Suspects, field: str, ids: Sequence[str], texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a row {id, field, label, suggested, score, text} for each suspect."""
    for suspect in suspects.found:
        yield {
            "id": ids[suspect.place],
            "field": field,
            "label": suspect.label,
            "suggested": suspect.suggested,
            "score": suspect.score,
            "text": texts[suspect.place],
        }


def _out_of_sample(vectors: np.ndarray, numbers: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=200)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    probabilities: np.ndarray = cross_val_predict(model, vectors, numbers, cv=folds, method="predict_proba")
    return probabilities


def _likely(numbers: np.ndarray, probabilities: np.ndarray) -> int:
    from cleanlab.count import num_label_issues

    return int(num_label_issues(numbers, probabilities))


def _note(few: list[str], rows: int, checkable: int) -> str:
    parts = []
    if few:
        named = ", ".join(few[:MAX_NAMED]) + (" …" if len(few) > MAX_NAMED else "")
        parts.append(
            f"{len(few):,} labels have fewer than {FOLDS} conversations and were not checked ({rows:,} rows): {named}."
        )
    if checkable < 2:
        parts.append(f"Labels are checked against one another: that takes two with {FOLDS} conversations or more.")
    return " ".join(parts)
