"""Each metric agrees with the library the field uses, and keeps its bounds."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluate.fakes import answered
from vivace.evaluate import METRICS
from vivace.evaluate.metric import per_example
from vivace.evaluate.metrics.exact_match import exact_match
from vivace.evaluate.metrics.token_f1 import token_f1

CASES = [
    ("Your order was shipped yesterday.", "Your order was shipped yesterday."),
    ("Your parcel left our warehouse on Monday.", "Your order left the warehouse on Monday morning."),
    ("I am sorry to hear that!", "I'm very sorry to hear that. Could you share the order number?"),
    ("", "Please restart the router."),
    ("Refunds take 5-7 business days, i.e. until 10.05.", "A refund takes 5 to 7 business days."),
    ("no", "Yes, of course: you can pay by card, by invoice or by bank transfer."),
    ("The the the the", "The cat is on the mat"),
    ("Le café est très bon; ça coûte 3,50 €", "Le café coûte 3,50 €"),
    ("ok", "OK"),
    ("Thank you for waiting . Anything else .", "Thank you for waiting. Is there anything else?"),
]
ANSWERS = [answered(number, said, wanted) for number, (said, wanted) in enumerate(CASES)]
SAID, WANTED = ([case[side] for case in CASES] for side in (0, 1))
INTERVAL = {"level": 0.95, "resamples": 200, "seed": 0}
TEXTS = st.text(st.sampled_from("ab cé.,!'1 \n👍退"), max_size=20)
BOUNDED = ["token_f1", "exact_match", "rouge_l", "rouge_1", "rouge_2", "bleu", "chrf"]


def value_of(name, answers):
    metric = METRICS.load(name)
    return metric.score(metric.rows(answers), **INTERVAL)


def test_bleu_and_chrf_are_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu")
    assert value_of("bleu", ANSWERS).value == pytest.approx(sacrebleu.corpus_bleu(SAID, [WANTED]).score, abs=1e-9)
    assert value_of("chrf", ANSWERS).value == pytest.approx(sacrebleu.corpus_chrf(SAID, [WANTED]).score, abs=1e-9)
    assert METRICS.load("bleu").signature().startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert METRICS.load("chrf").signature().startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_resampled_bleu_is_the_bleu_of_the_resampled_texts():
    sacrebleu = pytest.importorskip("sacrebleu")
    for name, whole in (("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)):
        metric = METRICS.load(name)
        rows = metric.rows(ANSWERS)
        for seed in range(5):
            drawn = np.random.default_rng(seed).integers(0, len(CASES), len(CASES))
            wanted = whole([SAID[i] for i in drawn], [[WANTED[i] for i in drawn]]).score
            assert metric.aggregate(rows[drawn].sum(axis=0)[None])[0] == pytest.approx(wanted, abs=1e-9)


def test_bleu_intervals_are_as_wide_as_sacrebleus_own():
    pytest.importorskip("sacrebleu")
    from sacrebleu.metrics.bleu import BLEU

    answers = ANSWERS * 12
    rows = METRICS.load("bleu").rows(answers)
    ours = METRICS.load("bleu").score(rows, level=0.95, resamples=1000, seed=0).interval
    theirs = BLEU(force=True).corpus_score(SAID * 12, [WANTED * 12], n_bootstrap=1000)
    assert (ours.high - ours.low) / 2 == pytest.approx(theirs._ci, rel=0.15)


@pytest.mark.parametrize(("name", "kind"), [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")])
def test_rouge_is_that_of_rouge_score(name, kind):
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer([kind], use_stemmer=False)
    wanted = [scorer.score(reference, said)[kind].fmeasure for said, reference in CASES]
    metric = METRICS.load(name)
    assert per_example(metric, metric.rows(ANSWERS)) == pytest.approx(wanted)
    assert value_of(name, ANSWERS).value == pytest.approx(np.mean(wanted))


def test_token_f1_of_sets_is_scikit_learns_f1():
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(12)]
    for _ in range(20):
        said, wanted = (rng.random(12) < 0.5 for _ in range(2))
        texts = [" ".join(word for word, inside in zip(words, side, strict=True) if inside) for side in (said, wanted)]
        if said.any() and wanted.any():
            assert token_f1(*texts) == pytest.approx(f1_score(wanted, said))


def test_token_f1_is_squads_where_the_definitions_agree():
    # SQuAD 1.1's published definition, for texts without articles and inner punctuation.
    def squad(said: str, wanted: str) -> float:
        left, right = said.lower().split(), wanted.lower().split()
        same = sum((Counter(left) & Counter(right)).values())
        if not same:
            return 0.0
        precision, recall = same / len(left), same / len(right)
        return 2 * precision * recall / (precision + recall)

    for said, wanted in [("one two two", "two two two three"), ("x", "y"), ("Blue sky", "sky blue today")]:
        assert token_f1(said, wanted) == pytest.approx(squad(said, wanted))


@pytest.mark.slow
def test_loss_is_that_of_transformers(tiny_model):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    rng, answers, total, tokens = np.random.default_rng(0), [], 0.0, 0
    for number in range(4):
        ids = torch.tensor(rng.integers(3, 500, (1, 12 + number)))
        labels = ids.clone()
        labels[:, :7] = -100  # the prompt
        with torch.no_grad():
            output = model(input_ids=ids, labels=labels)
        logprobs = torch.log_softmax(output.logits[0, 6:-1], dim=-1)
        logprob = float(logprobs[range(ids.shape[1] - 7), ids[0, 7:]].sum())
        answers.append(answered(number, "", "x", logprob=logprob, token_count=ids.shape[1] - 7))
        total, tokens = total + float(output.loss) * (ids.shape[1] - 7), tokens + ids.shape[1] - 7
    assert value_of("loss", answers).value == pytest.approx(total / tokens, rel=1e-5)
    assert value_of("perplexity", answers).value == pytest.approx(math.exp(total / tokens), rel=1e-5)


def test_the_interval_of_perplexity_is_that_of_the_loss_carried_through():
    rng = np.random.default_rng(1)
    answers = [answered(i, "", "x", logprob=-float(rng.gamma(4, 5)), token_count=10) for i in range(40)]
    loss, perplexity = value_of("loss", answers).interval, value_of("perplexity", answers).interval
    assert math.log(perplexity.low) == pytest.approx(loss.low, rel=1e-3)
    assert math.log(perplexity.high) == pytest.approx(loss.high, rel=1e-3)


def test_length_ratio_counts_words_over_the_whole_corpus():
    answers = [answered(0, "a b c d", "a b"), answered(1, "", "a b c d e f")]
    assert value_of("length_ratio", answers).value == pytest.approx(4 / 8)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_reference_itself_scores_full_and_a_failure_scores_nothing(name):
    highest = 100 if METRICS.load(name).unit == "points" else 1
    perfect = [answered(number, wanted, wanted) for number, wanted in enumerate(WANTED[:6])]
    assert value_of(name, perfect).value == pytest.approx(highest)
    broken = [answered(number, wanted, wanted, error="no answer") for number, wanted in enumerate(WANTED[:6])]
    assert value_of(name, broken).value == 0


@given(said=TEXTS, wanted=TEXTS)
@settings(max_examples=60, deadline=None)
def test_every_metric_stays_within_its_bounds(said, wanted):
    for name in BOUNDED:
        metric = METRICS.load(name)
        value = float(metric.aggregate(metric.rows([answered(0, said, wanted)]))[0])
        assert -1e-9 <= value <= (100 if metric.unit == "points" else 1) + 1e-9


@given(said=TEXTS, wanted=TEXTS)
def test_token_f1_and_exact_match_are_symmetric_and_the_same_text_scores_one(said, wanted):
    for metric in (token_f1, exact_match):
        assert metric(said, wanted) == metric(wanted, said)
        assert metric(said, said) == 1
    assert exact_match(said, wanted) <= token_f1(said, wanted)


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1), st.randoms())
def test_the_order_of_words_matters_to_exact_match_only(words, random):
    shuffled = random.sample(words, len(words))
    assert token_f1(" ".join(shuffled), " ".join(words)) == 1
    assert exact_match(" ".join(shuffled), " ".join(words)) == float(shuffled == words)


def test_no_exact_match_at_all_still_has_an_interval():
    answers = [answered(number, "no", "yes") for number in range(120)]
    score = METRICS.load("exact_match").score(METRICS.load("exact_match").rows(answers), **INTERVAL)
    assert score.value == 0
    assert 0.02 < score.interval.high < 0.05


def test_every_registered_metric_has_its_own_name_and_a_signature():
    for name in METRICS.names():
        metric = METRICS.load(name)
        assert metric.name == name
        assert metric.signature()
        assert METRICS.load(name).rows(ANSWERS).shape[0] == len(ANSWERS)
