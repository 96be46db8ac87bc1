"""The whole data stage on files."""

import json
from pathlib import Path

import pytest

from tests.data.conftest import Run
from tests.data.material import chat, distinct, write_rows
from vivace.data.card.report import SPLITS
from vivace.errors import ConfigError, DataError

OUTPUTS = {
    "examples.jsonl",
    "queries.jsonl",
    "preferences.jsonl",
    "documents.jsonl",
    "dropped.jsonl",
    "rejects.jsonl",
    "report.json",
    "card.md",
    "card.html",
}


def test_every_row_read_is_in_the_dataset_or_dropped_or_rejected(tmp_path: Path, run: Run) -> None:
    rows = [*(distinct(number) for number in range(30)), distinct(3), '{"broken', chat("Hi"), chat("Hallo", "Ja")]
    write_rows(tmp_path / "a.jsonl", rows)
    done = run(conversations=["a.jsonl"])
    assert {path.name for path in done.out.iterdir()} == OUTPUTS
    assert sum(len(done.lines(name)) for name in ("examples", "queries", "dropped", "rejects")) == len(rows)
    assert done.facts["examples"] == sum(done.facts[split] for split in SPLITS) == len(done.lines("examples"))
    assert all(example.messages[-1].role == "assistant" for example in done.examples)
    assert [row["source"] for row in done.lines("queries")] == ["a.jsonl:33"]
    (reject,) = done.lines("rejects")
    assert (reject["file"], reject["line"], reject["text"]) == ("a.jsonl", 32, '{"broken')
    assert {drop["source"]: drop["reason"] for drop in done.lines("dropped")} == {
        "a.jsonl:31": "exact duplicate",
    }


def test_the_same_files_give_the_same_bytes(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "a.jsonl", [*(distinct(number) for number in range(20)), "{", chat("me@example.com", "ok")])
    (tmp_path / "doc.md").write_text("# Help\n")
    one, other = (run(conversations=["a.jsonl"], documents=["doc.md"]) for _ in range(2))
    for name in OUTPUTS:
        assert (one.out / name).read_bytes() == (other.out / name).read_bytes()


def test_ids_and_splits_stay_when_files_and_lines_are_added(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "b.jsonl", [distinct(number) for number in range(60)])
    before = {row.id: row.split for row in run(conversations=["*.jsonl"]).examples}
    write_rows(tmp_path / "a.jsonl", [distinct(number) for number in range(100, 130)])
    write_rows(tmp_path / "b.jsonl", [distinct(number) for number in [99, *range(60), 98]])
    after = {row.id: row.split for row in run(conversations=["*.jsonl"]).examples}
    assert {name: after[name] for name in before} == before


def test_two_rows_of_one_id_are_told_apart(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "a.jsonl", [{**distinct(1), "id": "x"}, {**distinct(2), "id": "x"}])
    ids = [row.id for row in run(conversations=["a.jsonl"]).examples]
    assert ids[0] == "a:x"
    assert ids[1].startswith("a:x-")


PERSONAL = ["jane.doe@example.com", "4242 4242 4242 4242", "(977) 625-2661", "+44 20 7946 0958"]


def test_personal_data_is_in_no_file_that_is_written_not_even_of_dropped_rows(tmp_path: Path, run: Run) -> None:
    mail, card, phone, other = PERSONAL
    told = chat(
        f"<b>I am {mail}</b>, my card is  {card}", f"Thanks, we call {phone} &amp; {other}.", metadata={"m": mail}
    )
    rows = [
        told,
        told,
        {"messages": [{"role": "user", "content": f"Nobody answers me, says {mail}"}] * 2},
        chat(f"Guten Tag, ich bin {mail} und warte auf meine Bestellung seit gestern.", f"Oh, {phone}"),
        {**distinct(1), "id": mail},
        f'{{"messages": "{mail}, {card}, {phone}"',
        *(distinct(number) for number in range(5, 12)),
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    done = run(conversations=["a.jsonl"])
    assert len(done.lines("dropped")) == 3
    everything = "".join(path.read_text() for path in done.out.iterdir())
    assert [value for value in PERSONAL if value in everything] == []
    # The positive twin: with the step off it is all there.
    steps = ["encoding", "whitespace", "turns", "language", "exact_duplicates"]
    everything = "".join(path.read_text() for path in run(conversations=["a.jsonl"], steps=steps).out.iterdir())
    assert [value for value in PERSONAL if value in everything] == PERSONAL


def test_contacts_in_the_documents_stay_in_the_answers(tmp_path: Path, run: Run) -> None:
    (tmp_path / "contact.md").write_text("# Contact\n\nMail help@shop.example.\n")
    write_rows(tmp_path / "a.jsonl", [chat("How do I reach you? I am me@home.example", "Mail help@shop.example.")])
    done = run(conversations=["a.jsonl"], documents=["contact.md"])
    assert done.texts() == [["How do I reach you? I am [EMAIL_1]", "Mail help@shop.example."]]


def test_held_out_rows_are_cleaned_and_never_in_training(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "a.jsonl", [distinct(number) for number in range(20)])
    write_rows(tmp_path / "test.jsonl", [distinct(3), distinct(100), chat("<p>Is it  open?</p>", "Yes, it is.")])
    done = run(conversations=["a.jsonl"], test=["test.jsonl"])
    test = [row for row in done.examples if row.split == "test"]
    assert [row.source for row in test] == ["test.jsonl:1", "test.jsonl:2", "test.jsonl:3"]
    assert test[2].messages[0].content == "Is it open?"
    (drop,) = done.lines("dropped")
    assert (drop["source"], drop["reason"]) == ("a.jsonl:4", "contamination")


def test_groups_are_those_before_redaction(tmp_path: Path, run: Run) -> None:
    rows = [{**distinct(number), "customer": f"c{number % 4}@example.com"} for number in range(40)]
    write_rows(tmp_path / "a.jsonl", rows)
    done = run(conversations=["a.jsonl"], group_by="customer", validation_fraction=0.3, test_fraction=0.3)
    splits: dict[int, set[str]] = {}
    for row in done.examples:
        splits.setdefault((int(row.source.split(":")[1]) - 1) % 4, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len(set().union(*splits.values())) > 1


def test_a_sample_is_seeded_and_counted(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "a.jsonl", [distinct(number) for number in range(50)])
    one, same, other = (run(conversations=["a.jsonl"], max_conversations=10, seed=seed) for seed in (0, 0, 1))
    assert (one.facts["examples"], one.facts["sampled_out"]) == (10, 40)
    assert one.texts() == same.texts() != other.texts()


def test_a_step_left_out_is_not_done(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "a.jsonl", [chat("<b>Hi</b>", "Hello"), chat("<b>Hi</b>", "Hello"), distinct(1)])
    assert run(conversations=["a.jsonl"], steps=["turns"]).facts["examples"] == 3
    assert run(conversations=["a.jsonl"], steps=["encoding", "exact_duplicates"]).texts()[0] == ["Hi", "Hello"]
    with pytest.raises(ConfigError, match="no step 'turn'"):
        run(conversations=["a.jsonl"], steps=["turn"])


def test_a_file_that_is_mostly_broken_is_refused_with_the_first_reason(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "a.jsonl", [distinct(1), "{", '{"x": 1}'])
    with pytest.raises(DataError, match=r"a\.jsonl: 2 of 3 lines cannot be read.*line 2: not valid JSON"):
        run(conversations=["a.jsonl"])
    write_rows(tmp_path / "a.jsonl", [distinct(1), "{"])
    assert run(conversations=["a.jsonl"]).facts["rejected"] == 1


def test_nothing_left_is_refused_with_the_reasons(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "a.jsonl", [{"messages": [{"role": "user", "content": "Hi"}] * 2}] * 2)
    with pytest.raises(DataError, match=r"None of 2 conversations is left.*no answer to learn from \(2\)"):
        run(conversations=["a.jsonl"])
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="No conversation was found"):
        run(conversations=["a.jsonl"])


def test_report_and_card_tell_sources_composition_and_drops(tmp_path: Path, run: Run) -> None:
    rows = [{**distinct(number), "intent": f"i{number % 2}"} for number in range(20)]
    write_rows(tmp_path / "a.jsonl", [*rows, rows[0], "{", chat("Use ```x```", "I say | and ````y````.")])
    done = run(conversations=["a.jsonl"])
    report = done.report
    (source,) = report["sources"]
    assert (source["conversations"], source["kept"], source["rejected"]) == (22, 21, 1)
    assert source["dropped_by_step"] == {"exact_duplicates": 1}
    assert {name: sum(counts.values()) for name, counts in report["intents"].items()} == {"i0": 10, "i1": 10}
    assert sum(report["splits"][name]["examples"] for name in SPLITS) == 21
    assert [step["step"] for step in report["steps"]][-1] == "split"
    card = (done.out / "card.md").read_text()
    assert source["sha256"] in card
    assert "exact duplicate" in card
    samples = [sample for step in report["steps"] for sample in step["samples"]]
    assert all(sample["before"] != sample["after"] for sample in samples)
    json.dumps(report, allow_nan=False)
