"""A student distilled from its teacher, interrupted and not."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.train.distillation.material import build_deep_model, history, kill, run, write_talks
from tests.train.material import Watcher
from vivace.errors import ConfigError, ModelError
from vivace.models import ChatTokenizer, check_data_only, identify, load_causal_lm
from vivace.store.files import folder_digest
from vivace.train.distillation.student import layer_count

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_talks(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def teacher(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four layers that knows the facts."""
    folder = tmp_path_factory.mktemp("teacher")
    run(dataset, build_deep_model(folder / "base"), None, folder, num_train_epochs=12)
    return folder / "out" / "model"


@pytest.fixture(scope="module")
def halved(dataset: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A student with half of the teacher's layers, distilled from start to end."""
    folder = tmp_path_factory.mktemp("halved")
    return folder, run(dataset, teacher, teacher, folder, layers=0.5)


def test_a_half_depth_student_comes_near_its_teacher(halved: tuple[Path, dict[str, Any]], teacher: Path) -> None:
    folder, facts = halved
    made = folder / "out" / "model"
    check_data_only(made)
    assert identify(made).format == "hf"
    assert layer_count(made) == facts["student_layers"] == 2
    assert facts["teacher_layers"] == 4
    assert facts["kept_layers"] == [0, 3]
    assert facts["student_parameters"] < facts["teacher_parameters"]
    assert facts["divergence_after"] < 0.2 * facts["divergence_before"]
    assert facts["teacher_agreement_after"] > 0.9 > facts["teacher_agreement_before"]
    assert facts["best_validation_loss"] < 0.5 < facts["validation_loss_before"]
    assert facts["method"] == "full"  # what the rest of the loop knows a whole folder by
    tokenizer = ChatTokenizer.open(made)
    assert tokenizer.template == ChatTokenizer.open(teacher).template
    assert sum(p.numel() for p in load_causal_lm(made).parameters()) == facts["student_parameters"]


def test_the_history_tells_the_parts_of_the_loss(halved: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = halved
    rows = history(folder)
    assert [row["step"] for row in rows] == list(range(facts["steps"] + 1))
    for row in rows[1:]:
        assert row["loss"] == pytest.approx(0.5 * row["cross_entropy"] + 0.5 * row["divergence"], rel=1e-4)
    validated = [row for row in rows if "validation_loss" in row]
    assert len(validated) == 5
    for row in validated:
        mixed = 0.5 * row["validation_loss"] + 0.5 * row["validation_divergence"]
        assert row["validation_objective"] == pytest.approx(mixed, rel=1e-4)
    best = min(validated[1:], key=lambda row: row["validation_objective"])
    assert best["step"] == facts["best_step"]
    assert best["validation_loss"] == facts["best_validation_loss"]


def test_without_a_teacher_the_same_student_learns_the_answers_alone(
    dataset: Path, teacher: Path, halved: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    facts = run(dataset, teacher, None, tmp_path, layers=0.5)
    assert facts["student_layers"] == 2
    assert facts["steps"] == halved[1]["steps"]
    assert "divergence_after" not in facts
    assert folder_digest(tmp_path / "out" / "model")[0] != folder_digest(halved[0] / "out" / "model")[0]


@pytest.mark.parametrize(
    "how",
    [
        {"divergence": "reverse_kl", "temperature": 2.0},
        {"divergence": "jsd", "beta": 0.3, "alpha": 1.0},
        {"tuning": "lora", "learning_rate": 2e-2},
    ],
    ids=["reverse", "jsd", "adapter"],
)
def test_every_divergence_and_adapters_bring_the_student_nearer(
    dataset: Path, teacher: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    facts = run(dataset, teacher, teacher, tmp_path, layers=0.5, **how)
    assert facts["divergence_after"] < 0.7 * facts["divergence_before"]
    assert identify(tmp_path / "out" / "model").format == "hf"
    assert not (tmp_path / "out" / "model" / "adapter_config.json").exists()


@pytest.mark.parametrize("method", ["logits", "gkd"])
def test_a_distillation_killed_in_the_middle_ends_with_the_same_bits(
    dataset: Path, teacher: Path, tmp_path: Path, method: str
) -> None:
    how: dict[str, Any] = {"method": method, "layers": 0.5}
    facts = run(dataset, teacher, teacher, tmp_path / "through", **how)
    assert 12 <= kill(dataset, teacher, teacher, tmp_path / "killed", **how) < facts["steps"]
    watcher = Watcher()
    run(dataset, teacher, teacher, tmp_path / "killed", progress=watcher, **how)
    assert any("continues after step" in text for text in watcher.said)
    assert folder_digest(tmp_path / "killed" / "out")[0] == folder_digest(tmp_path / "through" / "out")[0]


def test_a_student_on_policy_learns_from_its_own_answers(dataset: Path, teacher: Path, tmp_path: Path) -> None:
    facts = run(dataset, teacher, teacher, tmp_path, method="gkd", layers=0.5, lmbda=0.6, num_train_epochs=12)
    rows = history(tmp_path)[1:]
    own = [row for row in rows if row.get("sampled")]
    assert 0.3 < len(own) / len(rows) < 0.9
    assert all(row["sampled"] == 1 and "cross_entropy" not in row for row in own)
    assert all(row["loss"] == pytest.approx(row["divergence"], rel=1e-4) for row in own)
    assert facts["divergence_after"] < 0.3 * facts["divergence_before"]


def test_accumulated_gradients_and_packed_rows_change_nothing_but_the_last_bits(
    dataset: Path, teacher: Path, tmp_path: Path
) -> None:
    found = [
        run(dataset, teacher, teacher, tmp_path / name, changes=changes, layers=0.5, num_train_epochs=1)
        for name, changes in (("plain", {}), ("packed", {"packing": True}))
    ]
    assert found[0]["best_validation_loss"] == pytest.approx(found[1]["best_validation_loss"], rel=1e-3)
    assert found[0]["divergence_after"] == pytest.approx(found[1]["divergence_after"], rel=1e-3)


def test_a_prompt_is_baked_into_the_student(dataset: Path, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Answer kindly. " * 8)
    how: dict[str, Any] = {"method": "prompt", "teacher_system": "file:prompt.txt", "teacher_examples": 2}
    base = build_deep_model(tmp_path / "base", 2)
    facts = run(dataset, base, base, tmp_path, **how)
    assert facts["shown_to_teacher"] == 2
    assert facts["examples"] == 6
    assert facts["divergence_before"] > 0.05
    assert facts["divergence_after"] < 0.5 * facts["divergence_before"]
    assert facts["teacher_agreement_after"] > facts["teacher_agreement_before"]


@pytest.mark.parametrize("method", ["gkd", "prompt"])
def test_packing_is_refused_where_conversations_are_looked_at_alone(
    dataset: Path, teacher: Path, tmp_path: Path, method: str
) -> None:
    with pytest.raises(ConfigError, match="packing = true"):
        run(dataset, teacher, teacher, tmp_path, changes={"packing": True}, method=method)


def test_a_teacher_that_counts_for_nothing_is_refused(dataset: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="alpha = 0"):
        run(dataset, teacher, teacher, tmp_path, alpha=0.0)


@pytest.mark.parametrize(
    ("name", "before", "after", "reason"),
    [
        ("tokenizer.json", '"use_regex": true', '"use_regex": false', "cut text into them differently"),
        ("chat_template.jinja", "assistant", "bot", "different chat templates"),
        ("config.json", '"max_position_embeddings": 1024', '"max_position_embeddings": 100', "reads 100 tokens"),
    ],
)
def test_a_teacher_that_reads_other_tokens_is_refused(
    dataset: Path, teacher: Path, tmp_path: Path, name: str, before: str, after: str, reason: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    text = (other / name).read_text()
    assert before in text
    (other / name).write_text(text.replace(before, after))
    with pytest.raises(ModelError, match=reason):
        run(dataset, teacher, other, tmp_path)


def test_a_teacher_with_another_vocabulary_is_refused(dataset: Path, teacher: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(teacher, other)
    told = json.loads((other / "tokenizer.json").read_text())
    words = told["model"]["vocab"]
    words["A"], words["B"] = words["B"], words["A"]
    (other / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="of which 2 differ"):
        run(dataset, teacher, other, tmp_path)
