"""Student and teacher read the same answers after different prompts."""

from pathlib import Path

import pytest

from vivace.config.distill import DistillSettings
from vivace.domain import Example, Message
from vivace.errors import ConfigError, DataError
from vivace.models import ChatTokenizer
from vivace.store import read_examples, write_examples
from vivace.train.batches.rows import IGNORED, Row
from vivace.train.distillation.prompting import SHOWN, TOO_LONG, Baked, bake, chosen_examples

TALK = (
    Message("user", "Where is my order?"),
    Message("assistant", "Your order was sent yesterday."),
    Message("user", "Thank you very much!"),
    Message("assistant", "Yes, you can."),
)


def baked(
    folder: Path, model: Path, rows: list[Example], *, lengths: tuple[int, int] = (512, 1024), **settings: object
) -> Baked:
    write_examples(folder / "examples.jsonl", rows)
    wanted = DistillSettings(method="prompt", **settings)
    tokenizer = ChatTokenizer.open(model)
    return bake(folder / "examples.jsonl", folder / "out.jsonl", tokenizer, lengths, "Be kind.", wanted, 0, folder)


def learned(row: Row) -> list[int]:
    return [label for label in row.labels if label != IGNORED]


def test_the_answers_are_the_same_tokens_and_only_the_teacher_sees_its_prompt(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.open(tiny_model)
    rows = [Example("shown", TALK[:2]), Example("long", TALK), Example("v", TALK, split="validation")]
    found = baked(tmp_path, tiny_model, rows, teacher_system="Say the day of delivery.", teacher_examples=1)
    assert found.dropped == {SHOWN: 1}
    assert [example.id for example in read_examples(tmp_path / "out.jsonl")] == ["long", "v"]
    for student, teacher in found.rows:
        assert learned(student) == learned(teacher) != []
        assert tokenizer.decode(learned(student)) == "Your order was sent yesterday.Yes, you can."
        own, theirs = tokenizer.decode(student.ids), tokenizer.decode(teacher.ids)
        assert "Be kind." in own
        assert "Be kind." not in theirs
        assert "Say the day of delivery." in theirs
        assert "Say the day of delivery." not in own
        assert theirs.count("Where is my order?") == 2 == own.count("Where is my order?") + 1


def test_a_conversation_that_loses_its_oldest_turns_loses_them_for_both(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.open(tiny_model)
    short = len(tokenizer.encode_chat((Message("system", "Be kind."), *TALK), add_generation_prompt=False)) - 1
    found = baked(
        tmp_path, tiny_model, [Example("a", TALK)], lengths=(short, 1024), teacher_system="Hi.", teacher_examples=0
    )
    ((student, teacher),) = found.rows
    assert len(student.ids) <= short
    for row in (student, teacher):
        assert "Where is my order?" not in tokenizer.decode(row.ids)
    assert tokenizer.decode(learned(student)) == tokenizer.decode(learned(teacher)) == "Yes, you can."


def test_a_conversations_own_system_prompt_gives_way_to_the_teachers_alone(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.open(tiny_model)
    rows = [Example("a", TALK[:2]), Example("b", (Message("system", "You sell hotels."), *TALK))]
    for told, seen in (("Say the day.", "Say the day."), ("", "You sell hotels.")):
        found = baked(tmp_path, tiny_model, rows, teacher_system=told, teacher_examples=1)
        ((student, teacher),) = found.rows
        assert "You sell hotels." in tokenizer.decode(student.ids)
        assert seen in tokenizer.decode(teacher.ids)
        assert ("You sell hotels." in tokenizer.decode(teacher.ids)) == (not told)


def test_a_prompt_that_leaves_no_room_is_counted_and_told(tiny_model: Path, tmp_path: Path) -> None:
    rows = [Example("a", TALK[:2]), Example("b", TALK)]
    short = baked(tmp_path, tiny_model, rows, teacher_system="Be quick.", teacher_examples=0, lengths=(512, 1024))
    lengths = sorted(len(teacher.ids) for _student, teacher in short.rows)
    some = baked(tmp_path, tiny_model, rows, teacher_system="Be quick.", teacher_examples=0, lengths=(512, lengths[0]))
    assert some.dropped == {TOO_LONG: 1}
    with pytest.raises(DataError, match="too long for the teacher"):
        baked(tmp_path, tiny_model, rows, teacher_system="Be quick.", teacher_examples=0, lengths=(512, 5))


@pytest.mark.parametrize("told", ["", "Be kind."])
def test_a_teacher_that_sees_nothing_more_is_refused(tiny_model: Path, tmp_path: Path, told: str) -> None:
    with pytest.raises(ConfigError, match="the same prompt as the student"):
        baked(tmp_path, tiny_model, [Example("a", TALK)], teacher_system=told, teacher_examples=0)


def test_a_prompt_comes_from_its_file_and_a_missing_one_is_told(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        baked(tmp_path, tiny_model, [Example("a", TALK)], teacher_system="file:prompt.txt")
    (tmp_path / "prompt.txt").write_text("Say the day.\n")
    found = baked(tmp_path, tiny_model, [Example("a", TALK)], teacher_system="file:prompt.txt", teacher_examples=0)
    assert "Say the day." in ChatTokenizer.open(tiny_model).decode(found.rows[0][1].ids)


def test_examples_to_show_are_short_ones_and_follow_from_the_seed() -> None:
    rows = [Example(str(n), (Message("user", "x" * n), Message("assistant", "y"))) for n in range(1, 21)]
    chosen = {seed: [row.id for row in chosen_examples(rows, 3, seed)] for seed in (0, 1)}
    assert chosen[0] == [row.id for row in chosen_examples(rows[::-1], 3, 0)]
    assert chosen[0] != chosen[1]
    assert all(int(name) <= 10 for names in chosen.values() for name in names)
    assert len(chosen_examples(rows, 30, 0)) == 20
