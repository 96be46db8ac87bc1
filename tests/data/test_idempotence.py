"""What was cleaned stays as it is, and no duplication gets past the split."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.data.conftest import Run
from tests.data.material import chat, distinct, write_rows
from tests.data.rooms import NOTHING
from vivace.config.data import DataSettings
from vivace.data import prepare
from vivace.data.cleaning.batch import Cleaner, Plan
from vivace.data.corpus.corpus import pack, unpack
from vivace.data.corpus.sketches import fingerprint, words_of
from vivace.data.rows import Row
from vivace.domain import Example, Message, Role, SilentProgress, Workspace
from vivace.store.rows import read_examples

ROW_STEPS = ("encoding", "whitespace", "signatures", "turns", "language", "quality", "personal")
PIECES = [
    "Hello there", " ", "\n", "\n\n", "caf\xc3\xa9", "<b>bold</b>", "&amp;lt;p&gt;", "&nbsp;", "jane@example.com",
    "call 977-625-2661", "4242 4242 4242 4242", "DE89 3704 0044 0532 0130 00", "[EMAIL_1]", "[PHONE_2]", "`<code>`",
    "Sent from my iPhone", "-- \nAnn Lee\nACME", "On Mon, Ann wrote:\n> hi", "> quoted", "as an AI language model",
    "\u200b", "\r\n", "it\u2019s", "\x00", "my name is Ann", "Dear Ann,", "https://x.example/reset?token=abc123def",
    "10.50", "?", "thanks", "\ufeff", "\u2028", "Regards,\nAnn", "order AB-12345",
]  # fmt: skip
ROLES: list[Role] = ["user", "assistant", "system"]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=8).map("".join)
TURNS = st.lists(st.tuples(st.sampled_from(ROLES), TEXTS), min_size=1, max_size=6)


@pytest.mark.slow
@example([("user", "Hello there"), ("user", "On Mon, Ann wrote:\n> hi"), ("assistant", "Hello there")])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TURNS)
def test_cleaning_what_was_cleaned_changes_nothing(turns: list[tuple[Role, str]]) -> None:
    chosen = NOTHING.model_copy(update={"languages": [], "redact": [*NOTHING.redact, "person", "order_number"]})
    cleaner = Cleaner(Plan(chosen, ROW_STEPS, label=False))
    row = Row(Example("r", tuple(Message(role, text) for role, text in turns), content_hash="h"))
    first = cleaner.clean([pack(row)])
    again = cleaner.clean(first.rows)
    assert again.rows == first.rows, [unpack(record).example.messages for record in (*first.rows, *again.rows)]
    assert all(not counts.drops and not counts.rows_changed for counts in again.counts)


def test_a_dataset_read_again_as_a_source_loses_nothing(tmp_path: Path, run: Run) -> None:
    rows = [
        *(distinct(number) for number in range(40)),
        chat("I am <b>jane@example.com</b>  ", "Fine, jane@example.com"),
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    first = run(conversations=["a.jsonl"])
    lines = [json.loads(line) for line in (first.out / "examples.jsonl").read_text().splitlines()]
    write_rows(tmp_path / "b.jsonl", [{"messages": line["messages"]} for line in lines])
    again = run(conversations=["b.jsonl"])
    assert again.lines("dropped") == []
    assert sorted(again.texts()) == sorted(first.texts())
    assert sum(step["rows_changed"] for step in again.report["steps"]) == 0


def edited(row: dict[str, Any], how: str) -> dict[str, Any]:
    """Return a row that says the same in another form."""
    messages = [dict(message) for message in row["messages"]]
    if how == "case":
        messages[0]["content"] = messages[0]["content"].upper() + "!!"
    if how == "spaces":
        messages[1]["content"] = "  " + messages[1]["content"].replace(" ", "  ")
    if how == "words":
        messages[0]["content"] += " ok"
    return {"messages": messages}


COPIES = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from(["same", "case", "spaces", "words"]), st.booleans()), max_size=25
)


@settings(max_examples=25, deadline=None)
@given(COPIES, st.booleans(), st.integers(0, 2))
def test_splits_are_disjoint_complete_and_free_of_leaks_under_any_duplication(
    copies: list[tuple[int, str, bool]], deduplicate: bool, seed: int
) -> None:
    learn = [distinct(number) for number in range(12)]
    held: list[dict[str, Any]] = []
    for number, how, is_test in copies:
        (held if is_test else learn).append(edited(distinct(number), how))
    steps = DataSettings().steps if deduplicate else ["whitespace", "turns"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder / "learn.jsonl", learn)
        if held:
            write_rows(folder / "held.jsonl", held)
        for part in ("out", "scratch"):
            (folder / part).mkdir()
        chosen = {
            "conversations": ["learn.jsonl"],
            "test": ["held.jsonl"] if held else [],
            "steps": steps,
            "seed": seed,
        }
        chosen |= {"validation_fraction": 0.2, "test_fraction": 0.2, "label": {"fields": []}}
        workspace = Workspace(folder / "out", folder / "scratch", SilentProgress())
        facts = prepare(DataSettings.model_validate(chosen), folder, workspace)
        rows = list(read_examples(folder / "out" / "examples.jsonl"))
        dropped = (folder / "out" / "dropped.jsonl").read_text().splitlines()
    assert len(rows) + len(dropped) == len(learn) + len(held)
    assert len({row.id for row in rows}) == len(rows)
    words: dict[bytes, set[str]] = {}
    for row in rows:
        words.setdefault(fingerprint(words_of(row.messages)), set()).add(row.split)
    assert all(len(splits) == 1 for splits in words.values())
    assert facts["train"] >= 1 or len(held) >= 12
