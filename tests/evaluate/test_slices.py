"""Slices show where a candidate is weak, and how sure that is."""

from tests.evaluate.fakes import SETTINGS, answered
from vivace.evaluate.slices import length_thirds, slice_scores

ANSWERS = [
    answered(number, said, "yes " * (number + 1), metadata={"intent": intent})
    for number, (said, intent) in enumerate([("no", "even"), ("yes", "odd")] * 4 + [("no", "even")])
]


def test_slices_by_intent_find_the_weak_one():
    slices = {each.value: each for each in slice_scores(ANSWERS, SETTINGS) if each.field == "intent"}
    assert (slices["odd"].count, slices["even"].count) == (4, 5)
    assert slices["even"].scores[0].value == 0 < slices["odd"].scores[0].value
    assert [score.metric for score in slices["odd"].scores] == ["token_f1", "rouge_l"]


def test_thirds_by_length_hold_every_answer_once():
    thirds = length_thirds(ANSWERS)
    assert [name for name, _ in thirds] == ["short (1 to 3 words)", "medium (4 to 6 words)", "long (7 to 9 words)"]
    assert sorted(each.id for _, part in thirds for each in part) == [each.id for each in ANSWERS]


def test_equal_lengths_stay_in_one_third():
    same = [answered(number, "yes", "yes it is") for number in range(5)]
    assert [(name, len(part)) for name, part in length_thirds(same)] == [("short (3 to 3 words)", 5)]


def test_a_slice_of_very_few_examples_says_that_it_knows_nothing():
    slices = {each.value: each for each in slice_scores(ANSWERS, SETTINGS)}
    for value, count, high in (("odd", 4, 1), ("even", 5, 0)):
        score = slices[value].scores[0]
        assert score.count == slices[value].count == count
        assert (score.interval.low, score.interval.high) == (0, high)


def test_examples_without_an_intent_have_no_intent_slices():
    plain = [answered(number, "yes", "yes " * (number + 1)) for number in range(4)]
    assert {each.field for each in slice_scores(plain, SETTINGS)} == {"reference_length"}
