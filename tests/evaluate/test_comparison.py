"""Better, worse or noise: paired, oriented and corrected."""

import msgspec
import numpy as np
import pytest

from tests.evaluate.fakes import SETTINGS, answered, candidate
from vivace.errors import DataError
from vivace.evaluate import compare, describe, detectable, family
from vivace.evaluate.report import write_report
from vivace.evaluate.run import score

WORDS = ["order", "parcel", "refund", "card", "address", "will", "be", "sent", "on", "friday", "please", "thank", "you"]
QUICK = SETTINGS.model_copy(update={"resamples": 399})


def report(name, said, *, settings=QUICK, seed=0, loss=None, tokens=10):
    """Return the report of a system: `said(rng, words of the reference)` gives its answer."""
    rng, noise = np.random.default_rng(7), np.random.default_rng(seed)
    answers = []
    for number in range(60):
        words = list(rng.choice(WORDS, 12))
        fields = (
            {} if loss is None else {"logprob": -loss * tokens + float(noise.normal(0, 0.3)), "token_count": tokens}
        )
        answers.append(answered(number, " ".join(said(noise, words)), " ".join(words), **fields))
    return score(candidate(name), answers, settings)


def keeping(share):
    return lambda rng, words: [word if rng.random() < share else "umbrella" for word in words]


BASE = report("base", keeping(0.3), loss=3.0)
GOOD = report("tuned", keeping(0.6), seed=1, loss=2.0)
SAME = report("other", keeping(0.3), seed=2, loss=3.0)


def by_metric(comparisons):
    return {each.metric: each for each in comparisons}


def test_a_planted_improvement_is_found_in_every_metric_that_can_see_it():
    found = by_metric(compare(GOOD, BASE, QUICK))
    for name in ("token_f1", "rouge_l", "rouge_1", "rouge_2", "bleu", "chrf", "loss"):
        assert found[name].outcome == "better", name
        assert found[name].interval.low > 0
        assert found[name].count == 60
    assert found["exact_match"].outcome == "noise"


def test_the_other_way_round_it_is_worse_by_as_much():
    there, back = by_metric(compare(GOOD, BASE, QUICK)), by_metric(compare(BASE, GOOD, QUICK))
    for name, comparison in there.items():
        assert back[name].difference == pytest.approx(-comparison.difference)
        assert back[name].p_value == pytest.approx(comparison.p_value, abs=0.05)
    assert back["token_f1"].outcome == "worse"
    assert back["loss"].outcome == "worse"


def test_a_lower_loss_is_a_positive_difference():
    assert GOOD.score("loss").value < BASE.score("loss").value
    assert by_metric(compare(GOOD, BASE, QUICK))["loss"].difference == pytest.approx(1.0, abs=0.05)


def test_equal_systems_are_noise_and_the_sentence_says_what_could_hide():
    comparisons = compare(SAME, BASE, QUICK)
    assert {each.outcome for each in comparisons} == {"noise"}
    f1 = by_metric(comparisons)["token_f1"]
    sentence = describe(f1)
    assert "noise only" in sentence
    assert f"with 60 examples a difference under {detectable(f1) * 100:.1f} points cannot be seen" in sentence
    assert "tuned is better than base in token_f1 (+" in describe(by_metric(compare(GOOD, BASE, QUICK))["token_f1"])


def test_a_system_against_itself_differs_by_nothing():
    for each in compare(BASE, BASE, QUICK):
        assert (each.difference, each.p_value, each.p_adjusted) == (0, 1, 1)


def test_p_values_are_corrected_over_the_metrics_and_over_a_family_of_candidates():
    comparisons = compare(GOOD, BASE, QUICK)
    smallest = min(each.p_value for each in comparisons)
    assert smallest == 1 / (5 * 399 + 1)
    assert min(each.p_adjusted for each in comparisons) == pytest.approx(smallest * len(comparisons))
    three = [each for other in (GOOD, SAME) for each in compare(other, BASE, QUICK)]
    assert min(each.p_adjusted for each in family(three)) == pytest.approx(smallest * len(three))
    assert family(family(three)) == family(three)


def test_corpus_bleu_is_tested_as_sacrebleu_tests_it():
    significance = pytest.importorskip("sacrebleu.significance")
    from sacrebleu.metrics.bleu import BLEU

    close = report("close", keeping(0.34), seed=5)
    systems = [(each.facts.candidate, [answer.answer for answer in each.answers]) for each in (BASE, close)]
    references = [[answer.reference for answer in BASE.answers]]
    _, results = significance.PairedTest(
        systems, {"BLEU": BLEU(force=True)}, references, test_type="ar", n_samples=2000
    )()
    ours = by_metric(compare(close, BASE, QUICK.model_copy(update={"resamples": 2000})))["bleu"]
    theirs = results["BLEU"][1]
    assert ours.difference == pytest.approx(theirs.score - results["BLEU"][0].score, abs=1e-9)
    assert ours.p_value == pytest.approx(theirs.p_value, abs=0.04)


def test_different_examples_cannot_be_compared():
    fewer = msgspec.structs.replace(BASE, answers=BASE.answers[1:])
    with pytest.raises(DataError, match="example-000"):
        compare(fewer, GOOD, QUICK)
    changed = msgspec.structs.replace(BASE.answers[0], reference="something else")
    with pytest.raises(DataError, match="other references"):
        compare(msgspec.structs.replace(BASE, answers=(changed, *BASE.answers[1:])), GOOD, QUICK)


def test_losses_over_other_tokens_are_not_compared():
    assert "loss" in by_metric(compare(GOOD, BASE, QUICK))
    assert "loss" not in by_metric(compare(report("coarse", keeping(0.6), loss=2.0, tokens=8), BASE, QUICK))
    assert "loss" not in by_metric(compare(report("mute", keeping(0.6)), BASE, QUICK))


def test_loss_is_compared_on_the_examples_that_both_could_judge():
    blind = (msgspec.structs.replace(BASE.answers[0], logprob=None, token_count=0), *BASE.answers[1:])
    comparison = by_metric(compare(GOOD, msgspec.structs.replace(BASE, answers=blind), QUICK))["loss"]
    assert comparison.count == 59


def test_reports_are_compared_from_their_folders(tmp_path):
    for name, each in (("good", GOOD), ("base", BASE)):
        write_report(each, tmp_path / name)
    assert compare(tmp_path / "good", tmp_path / "base", QUICK) == compare(GOOD, BASE, QUICK)
