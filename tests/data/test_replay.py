"""The dataset of an update: what is new, a fair sample of the old, nothing that is held out."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.train.material import workspace
from vivace.data.replay import MEMORY, identity, write_update
from vivace.domain import Example, Message
from vivace.domain.dataset import Split
from vivace.errors import DataError
from vivace.store import read_examples, write_examples


def talk(
    number: int, split: Split = "train", *, about: str = "old", name: str = "", answer: str = "", source: str = "chats"
) -> Example:
    """A conversation whose words no other one has; `answer` replaces the last one."""
    words = " ".join(f"{about}{number}x{place}" for place in range(16))
    messages = (Message("user", f"Question {words}"), Message("assistant", answer or f"Answer {words}"))
    content = f"{about}-{number}-{answer}"
    return Example(
        name or f"{about}:{number}", messages, split, source=f"{source}.jsonl:{number}", content_hash=content
    )


def folder(path: Path, *rows: Example) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    write_examples(path / "examples.jsonl", rows)
    return path


OLD = [*(talk(n) for n in range(40)), *(talk(n, "validation") for n in range(40, 46))]
OLD += [talk(n, "test") for n in range(46, 52)]
NEW = [*(talk(n, about="new") for n in range(20)), talk(20, "validation", about="new"), talk(21, "test", about="new")]


def update(tmp_path: Path, new: list[Example], old: list[Example] | Path = OLD, **changes: Any) -> tuple[Path, Any]:
    before = old if isinstance(old, Path) else folder(tmp_path / "old", *old)
    place = workspace(tmp_path / f"work-{len(list(tmp_path.iterdir()))}")
    facts = write_update(folder(tmp_path / "new", *new), before, place, **{"replay": 0.5, **changes})
    return place.out, facts


def rows(out: Path, split: Split, name: str = "examples.jsonl") -> list[str]:
    return [identity(row) for row in read_examples(out / name, split)]


@pytest.mark.parametrize(("replay", "replayed"), [(0.0, 0), (0.2, 5), (0.5, 20)])
def test_so_large_a_share_of_the_training_rows_is_old(tmp_path: Path, replay: float, replayed: int) -> None:
    out, facts = update(tmp_path, NEW, replay=replay)
    learned = Counter(name.split("-")[0] for name in rows(out, "train"))
    assert (learned["new"], learned["old"]) == (20, replayed)
    assert (facts["new"], facts["replayed"], facts["train"]) == (20, replayed, 20 + replayed)
    assert json.loads((out / "update.json").read_text())["replayed"] == replayed


def test_only_rows_that_were_not_learned_before_are_new(tmp_path: Path) -> None:
    out, facts = update(tmp_path, [*OLD, *NEW], replay=0.2)
    assert (facts["new"], facts["known"], facts["replayed"]) == (20, 40, 5)
    assert len(set(rows(out, "train"))) == 25
    assert len(rows(out, "validation")) == 7
    assert len(rows(out, "test")) == 7


def test_the_sample_follows_from_the_seed_and_another_seed_draws_another(tmp_path: Path) -> None:
    first, again, other = (update(tmp_path, NEW, seed=seed, replay=0.3)[0] for seed in (1, 1, 2))
    assert (first / "examples.jsonl").read_bytes() == (again / "examples.jsonl").read_bytes()
    assert (first / "examples.jsonl").read_bytes() != (other / "examples.jsonl").read_bytes()


def test_each_source_and_each_label_is_replayed_in_its_share(tmp_path: Path) -> None:
    old = [talk(n, source="mails") for n in range(30)]
    old += [talk(n, source="chats") for n in range(30, 40)]
    out, _facts = update(tmp_path, NEW[:8], old, replay=0.5)
    sources = Counter(row.source.partition(".")[0] for row in read_examples(out / "examples.jsonl", "train"))
    assert sources == {"mails": 6, "chats": 2 + 8}
    labeled = [Example(row.id, row.messages, "train", (), "", row.content_hash, {"topic": n % 4 == 0})
               for n, row in enumerate(OLD[:40])]  # fmt: skip
    out, _facts = update(tmp_path, NEW[:8], labeled, replay=0.5, labels=["topic"])
    topics = Counter(row.metadata.get("topic") for row in read_examples(out / "examples.jsonl", "train"))
    assert topics == {None: 8, True: 2, False: 6}


def test_no_row_that_repeats_a_held_out_one_is_learned(tmp_path: Path) -> None:
    held = talk(48, "test")
    nearly = Example(
        "new:99", (held.messages[0], Message("assistant", f"{held.reference} thanks")), "train", (), "", "n"
    )
    same = Example("new:98", talk(20, about="new").messages, "train", (), "", "s")  # a validation row of the new data
    edited = talk(41, answer="Quite another answer, with no word of what was said before.")
    out, facts = update(tmp_path, [*NEW, nearly, same, edited])
    assert set(rows(out, "train")).isdisjoint({"n", "s", identity(edited)})
    assert facts["left_out"] == {"id": 1, "near_duplicate": 1, "normalized": 1}
    assert facts["new"] == 20


def test_an_old_row_that_is_held_out_now_is_neither_replayed_nor_examined(tmp_path: Path) -> None:
    now_tested = talk(3, "test", name="new:3")
    out, facts = update(tmp_path, [*NEW, now_tested], replay=0.6)
    assert identity(now_tested) not in rows(out, "test")
    assert facts["held_out_learned_before"] == 1
    assert rows(out, "test") == ["new-21-"]


def test_the_positive_twin_rows_that_repeat_nothing_are_all_kept(tmp_path: Path) -> None:
    out, facts = update(tmp_path, NEW)
    assert facts["left_out"] == {}
    assert facts["held_out_learned_before"] == 0
    assert (len(rows(out, "validation")), len(rows(out, "test"))) == (1, 1)


def test_of_a_corrected_conversation_the_version_learned_before_is_not_replayed(tmp_path: Path) -> None:
    corrected = talk(5, answer="The right answer is something else altogether, we are sorry.")
    out, facts = update(tmp_path, [*NEW, corrected], OLD[:21], replay=0.5)
    assert identity(corrected) in rows(out, "train")
    assert identity(talk(5)) not in rows(out, "train")
    assert facts["replayed"] == 20


def test_rows_that_only_share_a_number_are_different_conversations(tmp_path: Path) -> None:
    renumbered = [talk(n, about="new", name=f"old:{n}") for n in range(46)]
    _out, facts = update(tmp_path, renumbered)
    assert (facts["new"], facts["left_out"]) == (46, {})


def test_what_is_not_replayed_is_remembered_and_a_second_update_draws_from_all_of_it(tmp_path: Path) -> None:
    first, facts = update(tmp_path, NEW, replay=0.2)
    assert sorted(rows(first, "train") + rows(first, "train", MEMORY)) == sorted(
        identity(row) for row in [*OLD, *NEW] if row.split == "train"
    )
    assert len(rows(first, "test", MEMORY)) == facts["old_held_out"] - 6 == 6
    later = [talk(n, about="later") for n in range(60)]
    second, facts = update(tmp_path, later, first, replay=0.5)
    assert facts["replayed"] == 60
    assert Counter(name.split("-")[0] for name in rows(second, "train")) == {"later": 60, "old": 40, "new": 20}
    assert len(rows(second, "test", MEMORY)) == 7


def test_other_files_of_the_new_dataset_come_along(tmp_path: Path) -> None:
    folder(tmp_path / "new", *NEW)
    (tmp_path / "new" / "preferences.jsonl").write_text("{}\n")
    out, _facts = update(tmp_path, NEW)
    assert (out / "preferences.jsonl").read_text() == "{}\n"


def test_the_hash_of_the_test_rows_is_that_of_the_new_dataset_where_none_leaves(tmp_path: Path) -> None:
    import hashlib

    out, facts = update(tmp_path, NEW)
    lines = [line for line in (tmp_path / "new" / "examples.jsonl").read_bytes().splitlines(True) if b'"test"' in line]
    assert facts["test_sha256"] == hashlib.sha256(b"".join(lines)).hexdigest()
    assert (out / "examples.jsonl").read_bytes().endswith(lines[-1])


def test_nothing_new_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training conversation that the model did not learn before"):
        update(tmp_path, OLD)
