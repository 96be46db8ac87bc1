"""Who the data speaks of."""

from tests.evaluate.ethics.fakes import example, settings
from vivace.evaluate.ethics.composition import count_mentions
from vivace.evaluate.ethics.groups import read_dimensions

GENDER = read_dimensions(["gender"])


def rows(male: int, female: int, neither: int = 5):
    texts = ["my husband called"] * male + ["my wife called"] * female + ["hello"] * neither
    return [example(f"e{number}", text, "ok", "train") for number, text in enumerate(texts)]


def test_mentions_are_counted_by_conversation_with_intervals() -> None:
    (found,) = count_mentions(rows(30, 10), GENDER, settings())
    assert (found.counts, found.mentioning, found.conversations) == ({"female": 10, "male": 30}, 40, 45)
    assert found.shares["male"].value == 0.75
    assert found.shares["male"].interval.low < 0.75
    assert found.warning == ""


def test_a_group_that_is_nearly_alone_is_warned_of_and_few_mentions_are_not() -> None:
    (found,) = count_mentions(rows(60, 2), GENDER, settings())
    assert "97%" in found.warning
    assert "male" in found.warning
    assert count_mentions(rows(10, 0), GENDER, settings())[0].warning == ""
    (alone,) = count_mentions(rows(60, 0), GENDER, settings())
    assert "Never mentioned: female." in alone.warning
