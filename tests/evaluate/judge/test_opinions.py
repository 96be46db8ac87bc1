"""What counts as an opinion of people, and what is left out."""

import gzip
import json
from pathlib import Path

import pytest

from vivace.domain import Example, Message
from vivace.errors import DataError
from vivace.evaluate.judge.opinions import NO_ANSWER, SAME, SEVERAL, TOO_MANY, UNDECIDED, Row, from_examples, gather
from vivace.evaluate.judge.ratings_file import read_ratings


def ask(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def test_opinions_on_one_answer_are_put_together_and_a_draw_is_left_out() -> None:
    rows = [Row(ask("q"), "yes", 1.0), Row(ask("q"), "yes", 1.0), Row(ask("q"), "yes", -1.0)]
    rows += [Row(ask("r"), "no", 1.0), Row(ask("r"), "no", -1.0)]
    found = gather(rows, 10, 10)
    assert [(each.answer, each.good) for each in found.rated] == [("yes", True)]
    assert found.left_out == {UNDECIDED: 2}


def test_which_answer_stands_first_does_not_tell_which_was_liked() -> None:
    rows = [Row(ask(f"q{n}"), f"liked {n}", 1.0, f"other {n}") for n in range(200)]
    found = gather(rows, 10, 200).compared
    firsts = sum(each.preferred == "first" for each in found)
    assert 70 < firsts < 130
    assert all((each.first if each.preferred == "first" else each.second).startswith("liked") for each in found)


def test_good_and_bad_answers_to_one_prompt_are_a_comparison_too() -> None:
    found = gather([Row(ask("q"), "good one", 1.0), Row(ask("q"), "bad one", -1.0)], 10, 10)
    (pair,) = found.compared
    assert (pair.first if pair.preferred == "first" else pair.second) == "good one"


def test_what_cannot_be_asked_is_counted() -> None:
    rows = [Row(ask("q"), " ", 1.0), Row(ask("q"), "a", 1.0, "a "), *(Row(ask(f"{n}"), "x", 1.0) for n in range(5))]
    assert gather(rows, 3, 3, unfit=2).left_out == {SEVERAL: 2, NO_ANSWER: 1, SAME: 1, TOO_MANY: 2}


def test_the_sample_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = [Row(ask(f"{n}"), "x", 1.0) for n in range(50)]
    assert gather(rows, 7, 7).rated == gather(rows[::-1], 7, 7).rated


def test_rows_that_begin_alike_or_share_a_conversation_are_one_group() -> None:
    opening = ask("where is my order number five")
    longer = (*opening, Message("assistant", "on its way"), *ask("thanks"))
    rows = [
        Row(opening, "a", 1.0, conversation="one"),
        Row(longer, "b", 1.0, conversation="two"),
        Row(ask("hi"), "c", 1.0, conversation="two"),
        Row(ask("hi"), "d", 1.0, conversation="three"),
        Row((*ask("hi"), Message("assistant", "x"), *ask("y")), "e", 1.0, conversation="four"),
    ]
    groups = {each.answer: each.group for each in gather(rows, 10, 10).rated}
    assert groups["a"] == groups["b"] == groups["c"]
    assert groups["e"] not in (groups["a"], groups["d"])


def test_a_datasets_preferences_are_read() -> None:
    turns = (*ask("q"), Message("assistant", "better"))
    examples = [
        Example("1", turns, rejected=(Message("assistant", "worse"),)),
        Example("2", turns, rating=0.0, metadata={"domain": "coffee"}),
        Example("3", ask("q"), rating=1.0),
    ]
    rows, unfit = from_examples(examples, within="domain")
    assert [(row.answer, row.other, row.lean, row.stratum) for row in rows] == [
        ("better", "worse", 1.0, ""),
        ("better", None, -1.0, "coffee"),
    ]
    assert unfit == 1


def written(folder: Path, *rows: object) -> Path:
    path = folder / "ratings.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_ratings_and_comparisons_are_read_in_the_shapes_people_have(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"prompt": "q", "answer": "a", "rating": "up"},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "rating": False},
        {
            "messages": [{"role": "user", "content": "q"}],
            "completion": {"role": "assistant", "content": "c"},
            "reward": 1,
        },
        {"prompt": "q", "answers": ["x", "y"], "preferred": "B"},
        {"prompt": "q", "chosen": "x", "rejected": [{"role": "assistant", "content": "z"}]},
        "",
        {"prompt": "q", "answer": "unrated"},
    )
    rows, unrated = read_ratings(path)
    assert [(row.answer, row.other, row.lean) for row in rows] == [
        ("a", None, 1.0),
        ("b", None, -1.0),
        ("c", None, 1.0),
        ("x", "y", -1.0),
        ("x", "z", 1.0),
    ]
    assert unrated == 1


def test_a_gzipped_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "q", "answer": "a", "rating": true}\n'))
    assert len(read_ratings(path)[0]) == 1


def test_stars_need_to_know_from_where_on_they_are_good(tmp_path: Path) -> None:
    path = written(tmp_path, *({"prompt": "q", "answer": f"a{n}", "rating": n} for n in range(1, 6)))
    with pytest.raises(DataError, match="up to 5"):
        read_ratings(path)
    assert [row.lean for row in read_ratings(path, good_from=4)[0]] == [-1, -1, -1, 1, 1]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a list"),
        ({"answer": "a", "rating": 1}, "no prompt"),
        ({"prompt": "q", "rating": 1}, "no answer"),
        ({"prompt": "q", "answer": 7, "rating": 1}, "an answer is a int"),
        ({"prompt": "q", "answer": "a", "rating": "meh"}, "'meh'"),
        ({"prompt": "q", "answers": ["a"], "preferred": "a"}, "1 answers"),
        ({"prompt": "q", "answers": ["a", "b"], "preferred": 1}, "preferred is 1"),
        ({"prompt": [{"content": "x"}], "answer": "a", "rating": 1}, "not an object with a role"),
        ({"prompt": "q", "answer": "a", "rating": float("nan")}, "nan"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, row: object, told: str) -> None:
    path = written(tmp_path, {"prompt": "q", "answer": "a", "rating": 1}, row)
    with pytest.raises(DataError, match=told) as caught:
        read_ratings(path)
    assert "line 2" in str(caught.value)


def test_files_that_are_none_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        read_ratings(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="no rating"):
        read_ratings(written(tmp_path, ""))
    binary = tmp_path / "b.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_ratings(binary)
