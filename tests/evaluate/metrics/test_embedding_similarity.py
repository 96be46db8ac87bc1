"""Closeness of meaning is measured where the embedder is, and nothing is fetched where it is not."""

import pytest

from tests.evaluate.fakes import answered
from vivace.evaluate import METRICS
from vivace.evaluate.metric import per_example
from vivace.evaluate.metrics import embedding_similarity
from vivace.evaluate.metrics.embedding_similarity import missing_embedder

METRIC = METRICS.load("embedding_similarity")
ANSWERS = [answered(0, "hello", "hi"), answered(1, "bye", "goodbye")]


def test_an_embedder_that_is_not_here_is_a_reason_and_opens_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path))
    monkeypatch.setattr(embedding_similarity, "opened", lambda: pytest.fail("it was opened"))
    assert METRIC.scored(ANSWERS) == []
    assert METRIC.why_missing(ANSWERS).startswith("The embedder 'minilm' is not on this machine")
    assert list(tmp_path.iterdir()) == []


def test_what_was_measured_before_is_not_embedded_again(tmp_path, monkeypatch):
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path))
    monkeypatch.setattr(embedding_similarity, "opened", lambda: pytest.fail("it was opened"))
    stored = [answered(n, "a", "b", scores={"embedding_similarity": n / 2}) for n in range(3)]
    assert per_example(METRIC, METRIC.rows(METRIC.scored(stored))) == [0, 0.5, 1]


@pytest.mark.skipif(bool(missing_embedder()), reason="the embedder is not on this machine")
def test_close_meanings_are_closer_than_others_and_a_failure_is_nothing():
    answers = [
        answered(0, "Your parcel was sent yesterday.", "We shipped your package the day before."),
        answered(1, "I like horses.", "We shipped your package the day before."),
        answered(2, "the same", "the same"),
        answered(3, "the same", "the same", error="no"),
    ]
    near, far, same, failed = per_example(METRIC, METRIC.rows(METRIC.scored(answers)))
    assert far + 0.3 < near < same == pytest.approx(1.0, abs=1e-5)
    assert failed == 0
