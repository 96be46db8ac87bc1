"""Better, worse, as good or unproven; where; in which answers; and with what chance of being wrong."""

import msgspec
import numpy as np
import pytest

from tests.evaluate.fakes import SETTINGS, answered, candidate
from vivace.domain import Comparison, Interval, Message
from vivace.errors import DataError
from vivace.evaluate.comparison import _comparison, family
from vivace.evaluate.difference import difference, judge
from vivace.evaluate.metric import METRICS
from vivace.evaluate.report import write_report
from vivace.evaluate.run import score
from vivace.evaluate.slices import slice_changes
from vivace.stats import mean_rows, needed_examples, paired_bootstrap

WORDS = ["order", "parcel", "refund", "card", "address", "will", "be", "sent", "on", "friday", "please", "thank"]
QUICK = SETTINGS.model_copy(update={"resamples": 399})


def report(name, keeps, *, seed=0, count=120):
    """Return the report of a system that keeps `keeps(intent)` of the reference's words."""
    rng, noise = np.random.default_rng(7), np.random.default_rng(seed)
    answers = []
    for number in range(count):
        words = list(rng.choice(WORDS, 12))
        intent = ("refund", "address", "parcel")[number % 3]
        said = [word if noise.random() < keeps(intent) else "umbrella" for word in words]
        answers.append(answered(number, " ".join(said), " ".join(words), metadata={"intent": intent}))
    return score(candidate(name), answers, QUICK)


BASE = report("base", lambda intent: 0.5)


def test_a_better_model_is_called_better_and_its_gains_are_shown():
    found = difference(report("tuned", lambda intent: 0.8, seed=1), BASE, QUICK)
    assert (found.outcome, found.metric) == ("better", "token_f1")
    assert found.sentence.startswith("tuned is better than base: +")
    tally = next(each for each in found.tallies if each.metric == "token_f1")
    assert tally.better > tally.worse
    assert tally.better + tally.worse + tally.equal == 120
    assert tally.effect > 1
    assert tally.superiority.low > 0.5
    assert [pair.change for pair in found.gains] == sorted((pair.change for pair in found.gains), reverse=True)
    assert all(pair.change < 0 for pair in found.regressions)


def test_a_model_that_is_silent_in_one_intent_is_named_for_it_though_it_is_better_as_a_whole():
    found = difference(report("tuned", lambda intent: 0.0 if intent == "refund" else 0.95, seed=1), BASE, QUICK)
    assert found.outcome == "better"
    assert [(part.field, part.value) for part in found.broken] == [("intent", "refund")]
    assert {part.value for part in found.slices if part.verdict == "gains"} >= {"address", "parcel"}


def test_the_same_answers_are_as_good():
    found = difference(BASE, BASE, QUICK, names=("this", "that"))
    assert (found.outcome, found.candidate, found.baseline) == ("as good", "this", "that")
    assert found.regressions == found.gains == ()
    assert found.tallies[0].equal == 120
    assert found.tallies[0].superiority is None


def test_too_few_examples_prove_nothing_and_how_many_would_is_told():
    few = report("tuned", lambda intent: 0.5, seed=3, count=12), report("base", lambda intent: 0.5, count=12)
    found = difference(*few, QUICK)
    assert found.outcome == "unproven"
    needed = int(found.sentence.rsplit(". ", 1)[1].split()[0].replace(",", ""))
    assert needed > 12
    assert found.power.needed["5"] < found.power.needed["2"] < found.power.needed["1"]


def test_a_metric_that_was_not_measured_is_refused_by_name():
    with pytest.raises(DataError, match="cannot be compared in loss"):
        difference(BASE, BASE, QUICK, "loss")


def test_other_examples_are_refused():
    with pytest.raises(DataError, match="different examples"):
        difference(report("tuned", lambda intent: 0.8, count=60), BASE, QUICK)


def test_a_difference_is_read_from_folders_and_survives_json(tmp_path):
    for name, side in (("a", report("tuned", lambda intent: 0.8, seed=1)), ("b", BASE)):
        (tmp_path / name).mkdir()
        write_report(side, tmp_path / name)
    found = difference(tmp_path / "a", tmp_path / "b", QUICK)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


@pytest.mark.parametrize(
    ("low", "high", "p", "wanted"),
    [
        (0.01, 0.05, 0.01, "better"),
        (-0.05, -0.01, 0.01, "worse"),
        (-0.009, 0.02, 0.5, "as good"),
        (-0.02, 0.02, 0.9, "unproven"),
    ],
)
def test_the_outcome_follows_the_interval_and_the_margin(low, high, p, wanted):
    found = Comparison("token_f1", "a", "b", (low + high) / 2, Interval(low, high), p, p, 100)
    assert judge(found, 0.01) == wanted


def test_the_turn_that_is_answered_is_a_slice():
    def asked(number, turns):
        prompt = tuple(Message("user", "and?") for _ in range(turns))
        return msgspec.structs.replace(answered(number, "yes", "yes it is"), prompt=prompt)

    answers = [asked(number, number % 4 + 1) for number in range(24)]
    found = slice_changes(answers, answers, METRICS.load("token_f1"), QUICK)
    assert [(part.value, part.count) for part in found if part.field == "turn"] == [
        ("1", 6),
        ("2", 6),
        ("3 or later", 12),
    ]


# What the figures promise, in simulated worlds. Scores are like token F1: between 0 and 1, skewed, with zeros.
WORLDS = 1000
EXAMPLES = 80
POINTS = 0.05


def world(seed, shift=0.0, metrics=4, count=EXAMPLES):
    """Return per-example scores (candidate, baseline) of correlated metrics; `shift` is the true difference."""
    rng = np.random.default_rng(seed)
    hardness = rng.beta(2, 4, count)
    noise = rng.normal(0, 0.12, (2, metrics, count)) + 0.6 * rng.normal(0, 0.12, (2, 1, count))
    scores = hardness + noise
    scores[0] += shift
    return scores


def adjusted(seed, shift=0.0):
    scores = world(seed, shift)
    rows = [[mean_rows(side[metric]) for side in scores] for metric in range(scores.shape[1])]
    settings = SETTINGS.model_copy(update={"resamples": 499, "seed": seed})
    metric = METRICS.load("token_f1")
    return family([_comparison(metric, *pair, ("a", "b"), settings) for pair in rows])


@pytest.mark.slow
def test_worlds_without_a_difference_are_called_different_in_at_most_one_of_twenty():
    called = sum(any(each.outcome != "noise" for each in adjusted(seed)) for seed in range(WORLDS))
    assert called <= 0.05 * WORLDS


@pytest.mark.slow
def test_slices_of_worlds_without_a_difference_break_in_at_most_one_of_twenty():
    settings = SETTINGS.model_copy(update={"resamples": 499})
    metric = METRICS.load("token_f1")
    broken = 0
    for seed in range(WORLDS):
        sides = world(seed, metrics=1)[:, 0]
        # Scores become answers: so many of 20 words are kept.
        kept = np.clip(np.round(sides * 20), 0, 20).astype(int)
        answers = [
            [
                answered(
                    number, "yes " * int(share) + "no " * int(20 - share), "yes " * 20, metadata={"intent": number % 5}
                )
                for number, share in enumerate(side)
            ]
            for side in kept
        ]
        found = slice_changes(*answers, metric, settings)
        assert len(found) == 6
        broken += any(part.verdict in ("breaks", "gains") for part in found)
    assert broken <= 0.05 * WORLDS


@pytest.mark.slow
def test_the_difference_that_is_promised_to_be_seen_is_seen_eight_times_in_ten():
    errors = [np.std(np.subtract(*world(seed)[:, 0]), ddof=1) / EXAMPLES**0.5 for seed in range(50)]
    count = needed_examples(float(np.mean(errors)), EXAMPLES, POINTS)
    found = 0
    for seed in range(WORLDS):
        sides = world(seed, POINTS, metrics=1, count=count)[:, 0]
        settings = SETTINGS.model_copy(update={"resamples": 499, "seed": seed})
        pair = [mean_rows(side) for side in sides]
        found += _comparison(METRICS.load("token_f1"), *pair, ("a", "b"), settings).outcome == "better"
    assert 0.77 * WORLDS <= found <= 0.84 * WORLDS


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = 0
    for seed in range(WORLDS):
        sides = world(seed, POINTS, metrics=1)[:, 0]
        interval = paired_bootstrap(*sides, resamples=999, seed=seed)
        covered += interval.low <= POINTS <= interval.high
    assert 0.94 * WORLDS <= covered <= 0.96 * WORLDS


@pytest.mark.slow
def test_a_model_that_loses_the_margin_is_called_as_good_in_at_most_one_of_forty():
    settings = SETTINGS.model_copy(update={"resamples": 499})
    called = 0
    for seed in range(WORLDS):
        pair = [mean_rows(side) for side in world(seed, -POINTS, metrics=1)[:, 0]]
        found = _comparison(METRICS.load("token_f1"), *pair, ("a", "b"), settings)
        called += found.interval.low > -POINTS
    assert called <= 0.035 * WORLDS


@pytest.mark.parametrize(("more", "outcome"), [(0.0, "as good"), (0.2, "worse"), (-0.2, "better")])
def test_a_loss_is_told_in_nats_and_its_margin_is_a_hundredth_of_one(more, outcome):
    rng = np.random.default_rng(5)
    per_token = rng.normal(2.0, 0.3, 80)
    noise = rng.normal(0, 0.01, 80)

    def likely(name, shifts):
        answers = [
            answered(n, "sent on friday", "sent on friday", logprob=-10 * value, token_count=10)
            for n, value in enumerate(per_token + shifts)
        ]
        return score(candidate(name), answers, QUICK)

    found = difference(likely("tuned", more + noise - noise.mean()), likely("base", 0.0), QUICK, "loss")
    assert (found.outcome, found.margin) == (outcome, 0.01)
    assert "nats/token of loss" in found.sentence
    assert set(found.power.needed) == {"0.01", "0.02", "0.05"}


def test_bleu_has_a_margin_of_one_point():
    found = difference(report("tuned", lambda intent: 0.6, seed=2), BASE, QUICK, "bleu")
    assert found.margin == 1.0
    assert found.power.unit == "points"
