"""What DPO and KTO are given to learn from."""

import numpy as np
import pytest
import torch

from vivace.config.train import PreferenceSettings
from vivace.errors import DataError
from vivace.train.batches.rows import IGNORED, Row
from vivace.train.preferences.align import some_prompts
from vivace.train.preferences.objective import Dpo, Kto
from vivace.train.preferences.rows import Pair, Preferences, Rated

KTO = PreferenceSettings(method="kto", beta=0.5)


def preferences(prompts: int = 6) -> Preferences:
    """A good and a bad answer to each prompt; prompt p begins with token 100 + p, its answers are 10p and 10p + 1."""
    answers = tuple(
        Row((100 + p, 1, 10 * p + side, 2), (IGNORED, IGNORED, 10 * p + side, 2))
        for p in range(prompts)
        for side in (0, 1)
    )
    numbers = tuple(p for p in range(prompts) for _ in (0, 1))
    return Preferences(
        answers,
        numbers,
        numbers,
        tuple(Pair(2 * p, 2 * p + 1) for p in range(prompts)),
        tuple(Rated(place, place % 2 == 0) for place in range(2 * prompts)),
    )


def test_the_drift_is_measured_on_answers_to_other_prompts() -> None:
    kto = Kto(preferences(), KTO, 512, seed=0)
    for item in range(12):
        own, other = kto.rows_of(item)
        assert own.ids[0] == other.ids[0]
        assert other.ids[2] // 10 != own.ids[0] - 100
    # In a round every answer is one other prompt's, unless its neighbor in the round shares its prompt.
    assert len({kto.rows_of(item)[1].ids[2] for item in range(12)}) >= 10


def test_losses_are_weighed_and_added_up() -> None:
    material = preferences(2)
    ratios = {row: float(number) - 1 for number, row in enumerate(material.answers)}

    def log_ratios(rows: list[Row]) -> torch.Tensor:
        return torch.tensor([ratios.get(row, 0.5) for row in rows], requires_grad=True)

    dpo = Dpo(material, PreferenceSettings(method="dpo", beta=0.5))
    loss, margin = dpo.loss([0, 1], log_ratios)
    assert loss.item() == pytest.approx(2 * np.log(1 + np.exp(0.5)))
    assert margin == pytest.approx(-0.5)
    kto = Kto(material, KTO, 512, seed=0)
    loss, margin = kto.loss([0, 1], log_ratios)
    expected = [1 - 1 / (1 + np.exp(-0.5 * value)) for value in (-1 - 0.5, 0.5 - 0)]
    assert loss.item() == pytest.approx(sum(expected))
    assert margin == pytest.approx(-0.5)
    assert kto.held_out_loss(material, np.zeros(4)) == 0.5
    assert dpo.held_out_loss(material, np.zeros(4)) == pytest.approx(np.log(2))


def test_ratings_of_one_kind_teach_kto_nothing_and_are_refused() -> None:
    material = preferences()
    good = Preferences(material.answers, material.prompts, material.talks, (), material.ratings[::2])
    with pytest.raises(DataError, match="none is bad"):
        Kto(good, KTO, 512, seed=0)
    with pytest.raises(DataError, match="no pair"):
        Dpo(good, PreferenceSettings(method="dpo"))


def test_a_sample_keeps_whole_prompts_and_both_kinds_of_answers() -> None:
    whole = preferences(40)
    few = some_prompts(whole, 10, seed=0)
    assert len(few.answers) == 10
    assert len(few.pairs) == 5
    for pair in few.pairs:
        assert few.prompts[pair.chosen] == few.prompts[pair.rejected]
        assert few.answers[pair.chosen].ids[2] + 1 == few.answers[pair.rejected].ids[2]
    # One bad answer among many good ones, one answer to a prompt.
    ratings = tuple(Rated(place, place != 33) for place in range(80))
    scarce = Preferences(whole.answers, tuple(range(80)), tuple(range(80)), (), ratings)
    for seed in range(5):
        assert not all(rated.good for rated in some_prompts(scarce, 10, seed).ratings)
    assert some_prompts(whole, 10, 1) != some_prompts(whole, 10, 2)
