"""The student's own answers: on the row's prompt, to the end token, from the seed alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from vivace.models import load_causal_lm
from vivace.train.batches.packing import collate
from vivace.train.batches.rows import IGNORED
from vivace.train.distillation.lesson import Divergence, Lesson
from vivace.train.distillation.sampling import OwnAnswers, answer_starts

ROWS = [
    {"input_ids": [1, 9, 40, 41, 2, 1, 50, 51, 2], "labels": [IGNORED] * 6 + [50, 51, 2], "share": 1.0},
    {"input_ids": [1, 12, 60, 2], "labels": [IGNORED, IGNORED, 60, 2], "share": 0.5},
]


def own_answers(**changes: Any) -> OwnAnswers:
    given: dict[str, Any] = {"lmbda": 0.5, "max_new_tokens": 6, "eos_ids": (2,), "seed": 3}
    return OwnAnswers(Lesson(Path("teacher"), Divergence(), 1.0, **(given | changes)), pad_id=2)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_causal_lm(tiny_model)


def test_each_row_is_answered_as_if_it_were_alone(model: Any) -> None:
    # So cold that chance has no say.
    made = own_answers(heat=1e-4).replace(model, collate(ROWS, 2), (0, 0, 0))
    for row, ids, labels, mask in zip(ROWS, made["input_ids"], made["labels"], made["attention_mask"], strict=True):
        start = answer_starts(row["labels"])[0]
        prompt = torch.tensor([row["input_ids"][:start]])
        alone = model.generate(prompt, max_new_tokens=6, do_sample=False, eos_token_id=2)[0].tolist()
        assert ids[mask.bool()].tolist() == alone
        assert labels[mask.bool()].tolist() == [IGNORED] * start + alone[start:]
    assert made["shares"].tolist() == [1.0, 0.5]
    assert made["sampled"].tolist() == [True, True]


def test_what_is_drawn_follows_from_the_seed_and_the_place_and_moves_no_other_chance(model: Any) -> None:
    batch = collate(ROWS, 2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    model.train()
    first = own_answers().replace(model, batch, (5, 0, 0))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    torch.manual_seed(2)
    again = own_answers().replace(model, batch, (5, 0, 0))
    assert all(torch.equal(first[name], again[name]) for name in first)
    others = [own_answers().replace(model, batch, place)["input_ids"].tolist() for place in ((6, 0, 0), (5, 1, 0))]
    others.append(own_answers(seed=4).replace(model, batch, (5, 0, 0))["input_ids"].tolist())
    assert first["input_ids"].tolist() not in others


def test_the_share_of_steps_that_the_student_answers_is_lmbda() -> None:
    wanted = [own_answers(lmbda=0.3).wanted(step) for step in range(2000)]
    assert 0.26 < sum(wanted) / 2000 < 0.34
    assert not any(own_answers(lmbda=0.0).wanted(step) for step in range(50))
    assert all(own_answers(lmbda=1.0).wanted(step) for step in range(50))


def test_every_turn_of_the_assistant_gets_its_chance(model: Any) -> None:
    row = {"input_ids": [1, 9, 40, 2, 1, 50, 2], "labels": [IGNORED, IGNORED, 40, 2, IGNORED, 50, 2], "share": 1.0}
    assert answer_starts(row["labels"]) == [2, 5]
    starts = set()
    for step in range(12):
        labels = own_answers().replace(model, collate([row], 2), (step, 0, 0))["labels"][0].tolist()
        starts.add(answer_starts(labels)[0])
    assert starts == {2, 5}
