"""Precision, recall, token accuracy and the corpus scores agree with the libraries of the field."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.fakes import answered
from vivace.evaluate import METRICS
from vivace.evaluate.metrics.token_f1 import token_f1, token_precision, token_recall
from vivace.stats import paired_permutation_rows

TEXTS = st.text(st.sampled_from("ab cé.,!'1 \n👍退"), max_size=20)
WANTED = [f"your order number {n} was sent on day {n % 5} by our partner in town" for n in range(40)]


def _said(seed: int, share: float) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(word if rng.random() < share else "maybe" for word in text.split()) for text in WANTED]


def _rows(name: str, said: list[str]):
    return METRICS.load(name).rows([answered(n, text, WANTED[n]) for n, text in enumerate(said)])


def test_precision_and_recall_of_sets_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(12)]
    for _ in range(20):
        said, wanted = (rng.random(12) < 0.5 for _ in range(2))
        texts = [" ".join(word for word, inside in zip(words, side, strict=True) if inside) for side in (said, wanted)]
        if said.any() and wanted.any():
            assert token_precision(*texts) == pytest.approx(sklearn.precision_score(wanted, said))
            assert token_recall(*texts) == pytest.approx(sklearn.recall_score(wanted, said))


@given(said=TEXTS, wanted=TEXTS)
def test_token_f1_is_the_harmonic_mean_of_precision_and_recall(said, wanted):
    precision, recall = token_precision(said, wanted), token_recall(said, wanted)
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert token_f1(said, wanted) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "kind"), [("bleu", "BLEU"), ("chrf", "CHRF")])
@pytest.mark.parametrize("share", [0.7, 0.62, 0.4])
def test_the_paired_test_finds_what_sacrebleus_own_finds(name, kind, share):
    pytest.importorskip("sacrebleu")
    from sacrebleu.metrics import BLEU, CHRF
    from sacrebleu.significance import PairedTest

    first, second = _said(1, 0.7), _said(2, share)
    metric = {"BLEU": BLEU, "CHRF": CHRF}[kind]()
    named = [("baseline", first), ("other", second)]
    theirs = PairedTest(named, {kind: metric}, [WANTED], test_type="ar", n_samples=2000)()[1]
    result = next(value for key, value in theirs.items() if key != "System")[1]
    score = METRICS.load(name)
    ours = paired_permutation_rows(_rows(name, first), _rows(name, second), score.aggregate, resamples=2000)
    assert float(score.aggregate(_rows(name, second).sum(axis=0)[None])[0]) == pytest.approx(result.score, abs=1e-6)
    assert ours == pytest.approx(result.p_value, abs=0.04)


def test_token_accuracy_is_the_share_of_all_tokens_and_leaves_out_what_is_unknown():
    answers = [
        answered(0, "a", "a", logprob=-1.0, token_count=4, greedy_count=4),
        answered(1, "a", "a", logprob=-1.0, token_count=12, greedy_count=0),
        answered(2, "a", "a", logprob=-1.0, token_count=5),
        answered(3, "a", "a", likelihood_error="The engine cannot tell likelihoods."),
    ]
    metric = METRICS.load("token_accuracy")
    chosen = metric.scored(answers)
    assert [each.id for each in chosen] == ["example-000", "example-001"]
    assert metric.aggregate(metric.rows(chosen).sum(axis=0)[None])[0] == pytest.approx(4 / 16)
    assert metric.why_missing(answers[2:3]) == (
        "The engine tells how likely a token is, but not which one it would choose."
    )
    assert metric.why_missing(answers[3:]) == "The engine cannot tell likelihoods."


@pytest.mark.parametrize("name", ["token_f1", "bleu", "rouge_l", "length_ratio", "exact_match", "token_precision"])
def test_an_example_that_only_calls_a_tool_is_not_in_the_metrics_of_text(name):
    answers = [answered(0, "yes", "yes"), answered(1, "<tool_call>{}</tool_call>", "")]
    assert [each.id for each in METRICS.load(name).scored(answers)] == ["example-000"]
