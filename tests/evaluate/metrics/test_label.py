"""Labels are told apart from texts, read from answers, and scored as scikit-learn does."""

import numpy as np
import pytest

from tests.evaluate.fakes import answered
from vivace.evaluate import METRICS
from vivace.evaluate.metrics.label import label_table, predicted
from vivace.text import normalize_words

LABELS = ["card payment", "refund", "delivery", "payment"]
KNOWN = [tuple(normalize_words(label)) for label in LABELS]
INTERVAL = {"level": 0.95, "resamples": 300, "seed": 0}


def _answers(count: int = 80):
    rng = np.random.default_rng(3)
    wanted = rng.choice(LABELS, count)
    said = np.where(rng.random(count) < 0.6, wanted, rng.choice([*LABELS, "no idea"], count))
    return wanted, said, [answered(n, str(said[n]), str(wanted[n])) for n in range(count)]


def _value(name: str, answers):
    metric = METRICS.load(name)
    return metric.score(metric.rows(metric.scored(answers)), **INTERVAL)


def test_accuracy_and_macro_f1_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.metrics")
    wanted, said, answers = _answers()
    assert _value("label_accuracy", answers).value == pytest.approx(sklearn.accuracy_score(wanted, said))
    macro = sklearn.f1_score(wanted, said, labels=LABELS, average="macro", zero_division=0)
    found = _value("label_f1", answers)
    assert found.value == pytest.approx(macro)
    assert found.interval.low < macro < found.interval.high


def test_precision_and_recall_by_label_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.metrics")
    wanted, said, answers = _answers()
    table = label_table(answers, 0.95)
    names = [row.label for row in table]
    assert sorted(names) == sorted(LABELS)
    columns = sklearn.precision_recall_fscore_support(wanted, said, labels=names, zero_division=0)
    for row, precision, recall, f1, count in zip(table, *columns, strict=True):
        assert (row.precision, row.recall, row.f1, row.count) == pytest.approx((precision, recall, f1, count))
        assert row.recall_interval is not None
        assert row.recall_interval.low <= row.recall <= row.recall_interval.high


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Refund.", "refund"),
        ("I would call this one a refund!", "refund"),
        ("It is about a card payment", "card payment"),
        ("refund or delivery", None),
        ("refunds", None),
        ("", None),
    ],
)
def test_a_label_is_read_where_the_answer_tells_exactly_one(text, label):
    assert predicted(text, KNOWN) == (tuple(normalize_words(label)) if label else None)


def test_references_that_are_sentences_are_no_labels_and_the_reason_says_so():
    texts = [answered(n, "x", f"Your order number {n} was sent to you yesterday.") for n in range(20)]
    metric = METRICS.load("label_accuracy")
    assert metric.scored(texts) == []
    assert metric.why_missing(texts).startswith("The references are no labels: 20 different ones among 20")
    same = [answered(n, "x", "ok") for n in range(20)]
    assert "fewer than two different" in metric.why_missing(same)
    rare = [answered(n, "x", f"label{n}") for n in range(20)]
    assert metric.scored(rare) == []
    assert METRICS.load("label_f1").scored([answered(n, "x", f"label{n % 10}") for n in range(20)])


def test_metadata_names_the_label_only_where_the_reference_says_it():
    named = [
        answered(0, "It is spam.", "This is spam", metadata={"label": "spam"}),
        answered(1, "ham", "This is surely ham", metadata={"label": "Ham"}),
        answered(2, "ham", "Something else altogether", metadata={"label": "spam"}),
    ]
    metric = METRICS.load("label_accuracy")
    assert [each.id for each in metric.scored(named)] == ["example-000", "example-001"]
    assert _value("label_accuracy", named).value == 1.0


def test_a_failed_answer_tells_no_label():
    _, _, answers = _answers(20)
    broken = [answered(n, each.reference, each.reference, error="no") for n, each in enumerate(answers)]
    assert _value("label_accuracy", broken).value == 0
    assert _value("label_f1", broken).value == 0
