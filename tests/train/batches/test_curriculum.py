"""From easy to hard, without seeing anything more or less often."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.train.material import Watcher, run, stop_and_go_on, workspace, write_dataset
from vivace.domain import Example, Message
from vivace.errors import ModelError
from vivace.models import ChatTokenizer, identify, load_causal_lm
from vivace.store import read_examples
from vivace.store.files import folder_digest
from vivace.train.batches.curriculum import LOSSES, difficulties, in_stages
from vivace.train.batches.plan import Plan, make_curriculum, make_plan
from vivace.train.batches.rows import Row, encode_examples

material = st.lists(st.tuples(st.integers(1, 300), st.floats(0, 10)), min_size=1, max_size=80)
budgets = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "accumulation": st.integers(1, 3),
        "epochs": st.sampled_from([0.5, 1, 2, 2.5]),
        "max_tokens": st.none() | st.integers(1, 20_000),
        "seed": st.integers(0, 5),
    }
)


def views(plan: Plan) -> Counter[int]:
    return Counter(i for batch in plan.batches for i in batch)


@given(material, st.integers(2, 10), budgets)
def test_every_row_is_seen_as_often_as_in_shuffled_training(
    rows: list[tuple[int, float]], stages: int, budget: dict[str, Any]
) -> None:
    lengths, hardness = [row[0] for row in rows], [row[1] for row in rows]
    plan = make_curriculum(lengths, hardness, stages, **budget)
    shuffled = make_plan(lengths, **budget)
    assert views(plan) == views(shuffled)
    assert plan.tokens == shuffled.tokens
    assert all(1 <= len(batch) <= budget["batch_size"] for batch in plan.batches)
    assert plan == make_curriculum(lengths, hardness, stages, **budget)


@given(material, st.integers(2, 10), st.integers(1, 4))
def test_each_stage_holds_the_easiest_shares_up_to_its_own(
    rows: list[tuple[int, float]], stages: int, epochs: int
) -> None:
    hardness = [row[1] for row in rows]
    count = len(rows)
    found = in_stages(list(range(count)) * epochs, hardness, stages)
    assert Counter(i for stage in found for i in stage) == {i: epochs for i in range(count)}
    ranks = {row: rank for rank, row in enumerate(sorted(range(count), key=lambda i: (hardness[i], i)))}
    for number, stage in enumerate(found):
        assert all(ranks[row] * stages // count <= number for row in stage)
    # The hardest share waits for the last stage.
    hardest = {row for row, rank in ranks.items() if rank * stages // count == stages - 1}
    assert hardest.isdisjoint(row for stage in found[:-1] for row in stage)


def test_stages_grow_and_difficulty_rises() -> None:
    found = in_stages(list(range(90)) * 3, [float(i) for i in range(90)], 3)
    assert [len(stage) for stage in found] == [30, 75, 165]
    means = [sum(stage) / len(stage) for stage in found]
    assert means == sorted(means)


def rows_of(tiny_model: Path, dataset: Path) -> tuple[Row, ...]:
    return encode_examples(ChatTokenizer.open(tiny_model), read_examples(dataset, "train"), "Be kind.", 512).rows


def test_turns_are_counted_without_the_system_prompt(tiny_model: Path) -> None:
    ask, tell = Message("user", "Hi"), Message("assistant", "Hello")
    examples = [Example("1", (ask, tell, ask, tell)), Example("2", (ask, tell))]
    rows = encode_examples(ChatTokenizer.open(tiny_model), examples, "Be kind.", 512).rows
    assert [row.turns for row in rows] == [4, 2]


def test_the_bases_losses_are_measured_once_and_a_torn_measurement_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    shutil.copytree(tiny_model, tmp_path / "base")
    rows = rows_of(tiny_model, write_dataset(tmp_path)) * 3
    place, base = workspace(tmp_path), identify(tmp_path / "base")
    first = difficulties(rows, "loss", base, place)
    model = load_causal_lm(tiny_model)
    for row, loss in zip(rows, first, strict=True):
        with torch.no_grad():
            plain = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss
        assert loss == pytest.approx(float(plain), rel=1e-4)

    journal = place.scratch / LOSSES
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-30])  # killed while the last chunk was written
    assert difficulties(rows, "loss", base, place) == first
    assert journal.read_bytes() == whole
    (tmp_path / "base" / "model.safetensors").unlink()
    assert difficulties(rows, "loss", base, place) == first
    with pytest.raises(ModelError):
        difficulties(rows[:9], "loss", base, place)  # another dataset has to be measured


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["length", "turns", "loss"])
def test_training_in_stages_is_deterministic_and_continues_to_the_same_bits(
    tiny_model: Path, tmp_path: Path, measure: str
) -> None:
    dataset = write_dataset(tmp_path)
    staged: dict[str, Any] = {"train_sampling_strategy": "curriculum", "curriculum": measure, "curriculum_stages": 2}
    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path / "through", progress=watcher, **staged)
    assert facts["best_validation_loss"] < facts["validation_loss_before"]
    assert ("Measuring difficulty" in watcher.totals) == (measure == "loss")
    stop_and_go_on(dataset, tiny_model, tmp_path / "stopped", **staged)
    digests = [folder_digest(tmp_path / name / "out")[0] for name in ("through", "stopped")]
    assert digests[0] == digests[1]
    last = json.loads((tmp_path / "through" / "out" / "history.jsonl").read_text().splitlines()[-1])
    assert last["tokens"] == facts["tokens"] == 8 * sum(len(row.ids) for row in rows_of(tiny_model, dataset))
