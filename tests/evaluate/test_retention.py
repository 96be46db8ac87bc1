"""What is kept, as a whole and by slice: planted losses are found, noise is not, and a mean hides no hole."""

import msgspec
import numpy as np
import pytest

from tests.evaluate.fakes import SETTINGS, answered, candidate
from vivace.errors import DataError
from vivace.evaluate.retention import retention
from vivace.evaluate.run import score

WORDS = ["order", "parcel", "refund", "card", "address", "will", "be", "sent", "on", "friday", "please", "thank", "you"]
QUICK = SETTINGS.model_copy(update={"resamples": 999})
INTENTS = ("refund", "delivery", "warranty", "address")


def report(name, share, *, seed=0, broken="", count=80, bits=1.0, languages=("en",)):
    """A system that gets each word right with probability `share`, and none in the intent `broken`."""
    rng, noise = np.random.default_rng(7), np.random.default_rng(seed)
    answers = []
    for number in range(count):
        intent = INTENTS[number % len(INTENTS)]
        words = list(rng.choice(WORDS, int(rng.integers(5, 20))))
        right = 0.0 if intent == broken else share
        said = " ".join(word if noise.random() < right else "umbrella" for word in words)
        reference = " ".join(words)
        likely = -bits * np.log(2) * len(reference.encode())
        answers.append(
            answered(
                number,
                said,
                reference,
                logprob=likely,
                token_count=10,
                metadata={"intent": intent, "language": languages[number % len(languages)]},
            )
        )
    return score(candidate(name), answers, QUICK)


def test_a_slice_that_breaks_is_flagged_even_when_the_others_make_up_for_it():
    whole = report("whole", 0.7)
    made_up = report("small", 0.95, seed=1, broken="warranty")
    found = retention(made_up, whole, QUICK)
    assert found.of("token_f1").change > -0.05  # the mean looks fine
    assert [(part.field, part.value) for part in found.broken] == [("intent", "warranty")]
    assert found.broken[0].change < -0.5
    assert found.broken[0].interval.high < 0


def test_noise_breaks_nothing():
    flagged = sum(
        bool(retention(report("small", 0.7, seed=1 + 2 * seed), report("whole", 0.7, seed=2 * seed), QUICK).broken)
        for seed in range(20)
    )
    assert flagged <= 2  # 5 % of twenty is one


def test_shares_and_intervals_are_of_the_same_examples():
    whole, small = report("whole", 0.8), report("small", 0.6, seed=1)
    found = retention(small, whole, QUICK)
    kept = found.of("token_f1")
    assert kept.share == pytest.approx(small.score("token_f1").value / whole.score("token_f1").value)
    assert kept.change == pytest.approx(kept.value - kept.reference)
    assert kept.interval.low < kept.change < kept.interval.high < 0
    assert kept.p_value < 0.01
    assert not kept.as_good()
    assert retention(whole, whole, QUICK).of("token_f1").as_good()


def test_bits_per_byte_compare_models_that_cut_texts_otherwise():
    whole = report("whole", 0.7, bits=1.0)
    other = report("small", 0.7, bits=1.5)
    other = msgspec.structs.replace(
        other, answers=tuple(msgspec.structs.replace(each, token_count=17) for each in other.answers)
    )
    kept = retention(other, whole, QUICK).of("bits_per_byte")
    assert kept.value == pytest.approx(1.5)
    assert kept.change == pytest.approx(0.5)
    assert not kept.as_good()  # more bits are worse
    assert retention(whole, other, QUICK).of("bits_per_byte").as_good()


def test_slices_with_few_examples_are_shown_and_not_judged():
    found = retention(report("small", 0.1, seed=1, count=12), report("whole", 0.9, count=12), QUICK)
    intents = [part for part in found.slices if part.field == "intent"]
    assert {part.verdict for part in intents} == {"few"}
    assert all(part.change is None for part in intents)
    assert not any(part.field == "language" for part in found.slices)  # there is one language only
    both = report("whole", 0.9, languages=("en", "de"))
    assert {part.value for part in retention(both, both, QUICK).slices if part.field == "language"} == {"en", "de"}


def test_other_examples_are_refused():
    with pytest.raises(DataError, match="different examples"):
        retention(report("small", 0.5, count=40), report("whole", 0.5), QUICK)
