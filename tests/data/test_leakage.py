"""The check that the test set was not learned from."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import Run
from tests.data.material import chat, distinct, write_rows
from tests.data.rooms import corpus_of
from vivace.data.duplicates.leakage import MAX_COMMON, LeakCheck, refuse_leaks
from vivace.data.rows import Row
from vivace.domain import Example, Message
from vivace.errors import DataError

LONG = (
    "my espresso machine drips from the group head whenever I switch the pump off after the second cup of the morning"
)
ANSWER = "Please change the gasket; the spare part has the number four and we send it to you without any charge today"


def row(name: str, question: str, answer: str, content_hash: str = "") -> Row:
    return Row(
        Example(name, (Message("user", question), Message("assistant", answer)), content_hash=content_hash or name)
    )


def leaks(folder: Path, learned: list[Row], test: list[Row]) -> list[str]:
    corpus = corpus_of([*learned, *test], folder)
    places = np.arange(len(learned) + len(test))
    found = LeakCheck(corpus, places[len(learned) :], 0.8).find(places[: len(learned)])
    corpus.close()
    return [leak.kind for leak in found]


@pytest.mark.parametrize(
    ("learned", "kind"),
    [
        (row("a", LONG, ANSWER, "same"), "exact"),
        (row("a", LONG.upper() + "!", ANSWER), "normalized"),
        (row("a", LONG + " really", ANSWER), "near_duplicate"),
        # Half of the test row's runs of 13 words, in a conversation that is otherwise another one.
        (row("a", "Something else first. " + LONG, " ".join(f"word{n}" for n in range(80))), "ngram_13"),
    ],
)
def test_every_kind_of_leak_is_found(tmp_path: Path, learned: Row, kind: str) -> None:
    innocent = row("b", "When does the shop open on a Sunday in the winter months, and is there a bus?", "At ten. Yes.")
    test = row("t", LONG, "Change it." if kind == "ngram_13" else ANSWER, "same")
    assert leaks(tmp_path, [innocent, learned], [test]) == [kind]
    assert leaks(tmp_path, [innocent], [test]) == []


def test_what_everybody_says_is_no_leak(tmp_path: Path) -> None:
    greeting = "thank you very much for contacting our customer service team today my name is Alex and I will help you"
    learned = [row(f"r{n}", f"{greeting} thing{n}", f"other{n} words{n} here{n}") for n in range(MAX_COMMON + 5)]
    assert leaks(tmp_path, learned, [row("t", f"{greeting} matter", "nothing alike")]) == []
    # The positive twin: said by few, it is one.
    assert leaks(tmp_path, learned[:1], [row("t", f"{greeting} matter", "nothing alike")]) == ["ngram_13"]


def test_a_leak_fails_the_run_naming_rows_if_asked(tmp_path: Path, run: Run) -> None:
    answer = " ".join(f"word{number}" for number in range(90))
    write_rows(tmp_path / "learn.jsonl", [*(distinct(n) for n in range(8)), chat(f"Good day. {LONG}", answer)])
    write_rows(tmp_path / "held.jsonl", [chat(LONG, "Change it.")])
    with pytest.raises(DataError, match=r"1 conversations.*learn\.jsonl:9 repeats held\.jsonl:1 \(ngram_13\)"):
        run(conversations=["learn.jsonl"], test=["held.jsonl"], on_leakage="fail")
    done = run(conversations=["learn.jsonl"], test=["held.jsonl"])
    assert done.report["leakage"]["removed"]["ngram_13"] == 1
    assert done.report["leakage"]["left"] == 0
    assert [drop["source"] for drop in done.lines("dropped")] == ["learn.jsonl:9"]


def test_no_test_set_has_no_leaks(tmp_path: Path) -> None:
    corpus = corpus_of([row("a", LONG, ANSWER)], tmp_path)
    nothing = np.zeros(0, dtype=np.int64)
    assert LeakCheck(corpus, nothing, 0.8).find(np.arange(1)) == []
    refuse_leaks(corpus, [])
    corpus.close()


def test_what_is_boilerplate_stays_so_when_rows_leave(tmp_path: Path) -> None:
    greeting = "thank you very much for contacting our customer service team today my name is Alex and I will help you"
    learned = [row(f"r{n}", f"{greeting} thing{n}", f"other{n} words{n} here{n}") for n in range(MAX_COMMON + 1)]
    corpus = corpus_of([*learned, row("t", f"{greeting} matter", "nothing alike")], tmp_path)
    check = LeakCheck(corpus, np.array([len(learned)]), 0.8)
    assert check.find(np.arange(len(learned))) == []
    assert check.find(np.arange(3)) == []
    corpus.close()
