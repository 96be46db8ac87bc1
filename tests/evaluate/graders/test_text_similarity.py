"""Likeness is what the libraries say it is, from 0 to 1."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.evaluate.graders.text_similarity import signature, similarities

PAIRS = [
    ("The cat sat on the mat.", "The cat is sitting on the mat."),
    ("Your order was shipped", "Your order was shipped"),
    ("nothing alike", "Refunds take five days"),
    ("running dogs", "run dog"),
]
MEASURES = ["fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"]
TEXTS = st.text(st.sampled_from("ab é.,!' \n👍退"), max_size=20)


def test_fuzzy_match_bleu_and_rouge_are_their_libraries():
    fuzz = pytest.importorskip("rapidfuzz.fuzz")
    sacrebleu = pytest.importorskip("sacrebleu")
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge5", "rougeL"])
    assert similarities("fuzzy_match", PAIRS) == pytest.approx([fuzz.ratio(a, b) / 100 for a, b in PAIRS])
    assert similarities("bleu", PAIRS) == pytest.approx([sacrebleu.sentence_bleu(a, [b]).score / 100 for a, b in PAIRS])
    assert similarities("rouge_l", PAIRS) == pytest.approx([scorer.score(b, a)["rougeL"].fmeasure for a, b in PAIRS])
    assert similarities("rouge_5", PAIRS) == pytest.approx([scorer.score(b, a)["rouge5"].fmeasure for a, b in PAIRS])


def test_meteor_knows_stems_and_no_synonyms():
    stems, synonyms, same = similarities(
        "meteor", [("running dogs", "run dog"), ("a big car", "a large car"), ("a b", "a b")]
    )
    assert stems > 0.9
    assert synonyms < same
    assert "synonyms:none" in signature("meteor")


@pytest.mark.parametrize("metric", MEASURES)
def test_the_same_text_is_as_like_as_can_be_and_another_is_less(metric):
    long = "your order was sent to you by our partner yesterday"
    same, other = similarities(metric, [(long, long), (long, "refunds take up to five business days")])
    assert same == pytest.approx(1.0, abs=1e-3)
    assert other < 0.5
    assert signature(metric)


@given(first=TEXTS, second=TEXTS)
@settings(max_examples=40)
def test_every_measure_stays_between_0_and_1(first, second):
    for metric in MEASURES:
        (value,) = similarities(metric, [(first, second)])
        assert 0 <= value <= 1
