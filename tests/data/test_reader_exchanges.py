"""One question and answer a row: Alpaca, prompt and completion, query and response, KTO, labeled queries."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.material import write_rows
from tests.data.sources import conversations, rejects, spoken, write
from vivace.data.reading.detection import choose_reader
from vivace.errors import DataError

ASKED = ("user", "Where?")
ANSWERED = ("assistant", "Here.")


def test_alpacas_input_stands_below_the_instruction_and_history_before_it(tmp_path: Path) -> None:
    row = {
        "instruction": "Translate.", "input": "Guten Tag", "output": "Good day", "system": "Be brief.",
        "history": [["Hi", "Hello"]], "source": "hand",
    }  # fmt: skip
    path = write_rows(tmp_path / "a.jsonl", [row, {"instruction": "Hi", "input": "", "output": "Hello"}])
    assert choose_reader(path)[0] == "alpaca"
    first, second = conversations(path)
    assert spoken(first) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Translate.\nGuten Tag"),
        ("assistant", "Good day"),
    ]
    assert first.metadata == {"source": "hand"}
    assert spoken(second) == [("user", "Hi"), ("assistant", "Hello")]


def test_alpaca_is_read_from_tables_and_its_broken_rows_are_told(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "instruction,input,output\nTranslate.,Hallo,Hello\n")
    assert (choose_reader(table)[0], spoken(conversations(table)[0])[0]) == ("alpaca", ("user", "Translate.\nHallo"))
    rows = [
        {"instruction": "a", "output": "b"},
        {"instruction": "a"},
        {"instruction": "a", "output": "b", "history": [1]},
    ]
    assert [reject.reason for reject in rejects(write_rows(tmp_path / "b.jsonl", rows))] == [
        "`output` is not text",
        "`history` is not a list of pairs of question and answer",
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Where?", "completion": "Here."},
        {"question": "Where?", "answer": "Here."},
        {"query": "Where?", "response": "Here.", "history": []},
        {"prompt": [{"role": "user", "content": "Where?"}], "completion": [{"role": "assistant", "content": "Here."}]},
        {"prompt": {"role": "user", "content": "Where?"}, "response": {"role": "assistant", "content": "Here."}},
    ],
)
def test_question_and_answer_go_by_many_names_and_shapes(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{**row, "id": 7, "topic": "parcel"}])
    assert choose_reader(path)[0] == "prompt_completion"
    (raw,) = conversations(path)
    assert (raw.own_id, spoken(raw), raw.metadata) == ("7", [ASKED, ANSWERED], {"topic": "parcel"})


def test_history_and_context_come_before_the_question(tmp_path: Path) -> None:
    row = {"query": "And then?", "response": "Rest.", "history": [["Hi", "Hello"]], "system": "Be kind."}
    (raw,) = conversations(write_rows(tmp_path / "a.jsonl", [row]))
    assert [text for _, text in spoken(raw)] == ["Be kind.", "Hi", "Hello", "And then?", "Rest."]
    row = {"context": "SUBJECT: Invoice 12", "question": "Which invoice?", "ideal": "12"}
    (raw,) = conversations(write_rows(tmp_path / "b.jsonl", [row]))
    assert spoken(raw) == [("user", "SUBJECT: Invoice 12\n\nWhich invoice?"), ("assistant", "12")]


def test_rows_of_another_kind_are_set_aside(tmp_path: Path) -> None:
    rows = [{"question": "Where?", "ideal": "Here."}, *[{"category": "attack", "text": "Ignore all."}] * 3]
    path = write_rows(tmp_path / "a.jsonl", rows)
    assert len(conversations(path)) == 1
    assert [reject.reason for reject in rejects(path)] == ["another kind of row: no `question`"] * 3


def test_kto_labels_are_ratings(tmp_path: Path) -> None:
    rows = [{"prompt": "Where?", "completion": "Here.", "label": label} for label in (True, False)]
    assert [raw.rating for raw in conversations(write_rows(tmp_path / "a.jsonl", rows))] == [1.0, 0.0]
    table = write(tmp_path / "a.csv", "prompt,completion,label\nWhere?,Here.,true\nWhere?,There.,False\n")
    assert [raw.rating for raw in conversations(table)] == [1.0, 0.0]


@pytest.mark.parametrize("keys", [("text", "intent"), ("utterance", "label"), ("query", "category")])
def test_labeled_queries_have_an_intent_and_no_answer(tmp_path: Path, keys: tuple[str, str]) -> None:
    rows = [{keys[0]: "Where is it?", keys[1]: "tracking", "split": "test"}, {keys[0]: "Hi", keys[1]: 3}]
    path = write_rows(tmp_path / "a.jsonl", rows)
    assert choose_reader(path)[0] == "labeled_queries"
    found = conversations(path)
    assert [spoken(raw) for raw in found] == [[("user", "Where is it?")], [("user", "Hi")]]
    assert [raw.metadata for raw in found] == [{"intent": "tracking", "split": "test"}, {"intent": "3"}]
    table = write(tmp_path / "a.csv", f'{keys[0]},{keys[1]}\n"Where, is it?",tracking\n')
    assert conversations(table)[0].metadata == {"intent": "tracking"}


def test_columns_are_named_by_the_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "Anliegen,Antwort,input\nWhere?,Here.,x\n")
    with pytest.raises(DataError, match=r"no known format.*\[data\] columns = "):
        choose_reader(path)
    (raw,) = conversations(path, question="Anliegen", answer="Antwort")
    assert (spoken(raw), raw.metadata) == ([ASKED, ANSWERED], {"input": "x"})


def test_the_hint_of_ambiguous_columns_settles_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "query,question,answer\nx,Where?,Here.\n")
    with pytest.raises(DataError) as caught:
        choose_reader(path)
    assert '[data] columns = { prompt = "question" }' in caught.value.hint
    assert spoken(conversations(path, prompt="question")[0]) == [ASKED, ANSWERED]
    assert spoken(conversations(path, question="question")[0]) == [ASKED, ANSWERED]


def test_the_hint_of_an_ambiguous_format_settles_it(tmp_path: Path) -> None:
    row = {"instruction": "a", "output": "b", "prompt": "Where?", "response": "Here."}
    path = write_rows(tmp_path / "a.jsonl", [row])
    with pytest.raises(DataError, match=r"could be alpaca or prompt_completion") as caught:
        choose_reader(path)
    assert '[data] format = "alpaca"' in caught.value.hint
    assert "--set data.format=alpaca" in caught.value.hint
    assert spoken(conversations(path, "prompt_completion")[0]) == [ASKED, ANSWERED]
    assert spoken(conversations(path, "alpaca")[0]) == [("user", "a"), ("assistant", "b")]
