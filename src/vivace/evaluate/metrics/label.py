"""Label accuracy and macro F1: references that are labels, such as an intent, a queue or yes and no.

An answer's label is the one it consists of, else the only one it holds as whole words; an answer that holds none or
several has none, which is wrong.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from msgspec import Struct

from vivace.domain import Interval
from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric, Scope
from vivace.stats import Floats, mean_rows, proportion_interval
from vivace.text import normalize_words

_KEY = "label"
MAX_WORDS = 6
PER_LABEL = 2  # references that share a label, on average: else it is no closed set

Words = tuple[str, ...]


class LabelScore(Struct, frozen=True):
    """How one label fares: `count` references have it, `told` answers; intervals are Wilson's, None of nothing."""

    label: str
    count: int
    told: int
    precision: float
    precision_interval: Interval | None
    recall: float
    recall_interval: Interval | None
    f1: float


def label_table(answers: Sequence[Answer], level: float) -> list[LabelScore]:
    """Return precision, recall and F1 of every label of the references; none where they are no labels."""
    chosen = _scope(answers).answers
    labels, places = _labels(chosen)
    names = {_words(_wanted(each)): _wanted(each) for each in reversed(chosen)}
    sums = _counts(chosen, places).sum(axis=0).reshape(3, len(labels)).astype(int)
    table = []
    for label, right, told, count in zip(labels, *sums.tolist(), strict=True):
        table.append(
            LabelScore(
                names[label],
                count,
                told,
                right / told if told else 0.0,
                proportion_interval(right, told, level=level) if told else None,
                right / count,
                proportion_interval(right, count, level=level),
                2 * right / (told + count),
            )
        )
    return table


def predicted(text: str, labels: Iterable[Words]) -> Words | None:
    """Return the label that a text tells, None where it tells none or several."""
    said = _words(text)
    known = set(labels)
    if said in known:
        return said
    sizes = {len(label) for label in known}
    held = {
        said[start : start + size]
        for size in sizes
        for start in range(len(said) - size + 1)
        if said[start : start + size] in known
    }
    whole = [label for label in held if not any(_inside(label, other) for other in held if other != label)]
    return whole[0] if len(whole) == 1 else None


def _inside(part: Words, whole: Words) -> bool:
    size = len(part)
    return any(whole[start : start + size] == part for start in range(len(whole) - size + 1))


def _scope(answers: Sequence[Answer]) -> Scope:
    """Choose the examples that name their label; else all, where their references are a small closed set."""
    worded = [each for each in answers if each.has_text]
    naming = [each for each in worded if _names_its_label(each)]
    if naming:
        return Scope(naming, "Fewer than two examples name their label in metadata.label.")
    wanted = [_words(each.reference) for each in worded]
    distinct = set(wanted)
    if len(distinct) < PER_LABEL or () in distinct:
        return Scope([], "The references are no labels: there are fewer than two different ones.")
    longest = max(map(len, distinct))
    if longest > MAX_WORDS or PER_LABEL * len(distinct) > len(wanted):
        return Scope(
            [],
            f"The references are no labels: {len(distinct)} different ones among {len(wanted)}, the longest of "
            f"{longest} words, and no example names its own in metadata.{_KEY}.",
        )
    return Scope(worded)


def _names_its_label(answer: Answer) -> bool:
    """Tell whether metadata has a label that the reference says, so that it is what was asked for."""
    label = answer.metadata.get(_KEY)
    return isinstance(label, str) and bool(_words(label)) and _inside(_words(label), _words(answer.reference))


def _wanted(answer: Answer) -> str:
    return str(answer.metadata[_KEY]) if _names_its_label(answer) else answer.reference


@lru_cache(1 << 14)
def _words(text: str) -> Words:
    return tuple(normalize_words(text))


def _labels(answers: Sequence[Answer]) -> tuple[list[Words], dict[Words, int]]:
    labels = sorted({_words(_wanted(each)) for each in answers})
    return labels, {label: place for place, label in enumerate(labels)}


def _counts(answers: Sequence[Answer], places: dict[Words, int]) -> Floats:
    """Return, per answer, whether each label is rightly told, told, and wanted: shape (answers, 3 x labels)."""
    rows = np.zeros((len(answers), 3, len(places)))
    for line, each in enumerate(answers):
        wanted = places[_words(_wanted(each))]
        told = None if each.failed else predicted(each.answer, places)
        rows[line, 2, wanted] = 1
        if told is not None:
            rows[line, 1, places[told]] = 1
            rows[line, 0, wanted] = float(places[told] == wanted)
    return rows.reshape(len(answers), 3 * len(places))


def _rows(answers: Sequence[Answer]) -> Floats:
    return _counts(answers, _labels(answers)[1])


def _accuracy_rows(answers: Sequence[Answer]) -> Floats:
    places = _labels(answers)[1]
    return mean_rows(_counts(answers, places)[:, : len(places)].sum(axis=1))


def _macro_f1(sums: Floats) -> Floats:
    """Average F1 over the labels that are told or wanted; a resample may hold no example of some."""
    right, told, wanted = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
    there = told + wanted > 0
    f1 = np.divide(2 * right, told + wanted, out=np.zeros_like(right), where=there)
    mean: Floats = f1.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return mean


_READ = "label:whole-answer,else-only-one-held|words:nfkc-casefold"
ACCURACY = Metric("label_accuracy", _accuracy_rows, lambda: f"{_READ}|average:examples", proportion=True, scope=_scope)
F1 = Metric("label_f1", _rows, lambda: f"{_READ}|average:macro", _macro_f1, per_example=False, scope=_scope)
