"""The report reads well, survives hostile answers, and loads again as it was."""

import pytest

from tests.evaluate.fakes import SETTINGS, answered, candidate
from vivace.errors import DataError
from vivace.evaluate import load_report, power_sentence
from vivace.evaluate.report import markdown, write_report
from vivace.evaluate.run import score

ANSWERS = [answered(number, "yes " * number, "yes " * (number + 1)) for number in range(1, 13)]


def report(answers=ANSWERS):
    return score(candidate("tuned", system="Be brief."), answers, SETTINGS)


def test_what_is_written_loads_as_it_was(tmp_path):
    written = report()
    write_report(written, tmp_path)
    assert load_report(tmp_path) == written
    assert load_report(tmp_path).facts.chain == {"system": "Be brief."}


def test_an_absent_or_damaged_report_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="holds no evaluation"):
        load_report(tmp_path)
    write_report(report(), tmp_path)
    (tmp_path / "scores.json").write_text('{"metric": ')
    with pytest.raises(DataError, match="is damaged"):
        load_report(tmp_path)


def test_the_markdown_shows_five_worst_and_five_best_answers():
    text = markdown(report())
    worst, best = text.split("## The 5 best")
    worst = worst.split("## The 5 worst")[1]
    assert worst.index("example-001") < worst.index("example-002")
    assert "example-012" in best
    assert "example-012" not in worst
    assert "| token\\_f1" not in text
    assert "| token_f1 | 0." in text


def test_answers_cannot_break_out_of_the_table():
    hostile = [answered(1, "a | b\n\n# Title <script>alert(1)</script> ![x](http://y)", "x"), *ANSWERS[1:]]
    line = next(line for line in markdown(report(hostile)).splitlines() if line.startswith("| example-001"))
    assert "a \\| b # Title &lt;script>" in line
    assert "!\\[x\\](" in line


def test_the_power_sentence_says_what_cannot_be_seen_and_shrinks_with_more_examples():
    few, many = (
        report(),
        report(ANSWERS * 1 + [answered(100 + i, a.answer, a.reference) for i, a in enumerate(ANSWERS * 7)]),
    )
    assert "With 12 examples, a difference in token_f1 under" in power_sentence(few)
    assert "With 96 examples" in power_sentence(many)
    assert many.facts.detectable["token_f1"] < few.facts.detectable["token_f1"] / 2
    assert power_sentence(few, "loss") == ""
