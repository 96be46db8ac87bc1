"""Transforms for search, keys and classical models: what they change, and whose turns the steps touch."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rooms import run_step
from vivace.config.data import DataSettings
from vivace.data.rows import Row
from vivace.domain import Example, Message
from vivace.errors import ConfigError
from vivace.text import lemmatizer, lowercase, normalize_words, spelling_corrector, stemmer, strip_punctuation
from vivace.text.transforms import Transform


def row(*turns: str) -> Row:
    roles = ("user", "assistant")
    return Row(Example("x", tuple(Message(roles[place % 2], turn) for place, turn in enumerate(turns))))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("transform", "text", "changed"),
    [
        (lowercase, "WRITE to [EMAIL_1] NOW", "write to [EMAIL_1] now"),
        (strip_punctuation, "Don't pay $3.50, (ever)!", "Dont pay 3.50 ever"),
        (strip_punctuation, "Mail [EMAIL_1], or self-service?", "Mail [EMAIL_1] or self service"),
        (
            stemmer(),
            "My deliveries were DELAYED, see [ORDER_NUMBER_2].",
            "my deliveri were delay, see [ORDER_NUMBER_2].",
        ),
        (stemmer("de"), "Die Lieferungen kamen", "die liefer kam"),
        (lemmatizer(), "The parcels were running late", "the parcel be run late"),
        (lemmatizer("de"), "die Häuser", "der Haus"),
    ],
)
def test_a_transform_changes_words_and_no_placeholder(transform: Transform, text: str, changed: str) -> None:
    assert transform(text) == changed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        ("i recieved a replacemnt, its unaceptable!", "i received a replacement, its unacceptable!"),
        ("Recieved it tomorow.", "Received it tomorrow."),
        ("My Zyphora kettle, the zyphora, from Brabenta", "My Zyphora kettle, the zyphora, from Brabenta"),
        ("thats wrong, dont", "thats wrong, dont"),
        ("recieved@example.com and http://recieved.example/recieved?recieved=1", None),
        ("code recieved7 RECIEVED KV-recieved [EMAIL_1]", None),
        ("the colour of my favourite", None),
    ],
)
def test_spelling_is_corrected_but_names_codes_and_links_stay(text: str, corrected: str | None) -> None:
    assert spelling_corrector(known=["Zyphora", "zyphora"])(text) == (corrected or text)


@given(st.text().map(lambda text: unicodedata.normalize("NFKC", text)))
def test_stripped_text_has_the_words_of_the_text(text: str) -> None:
    assert normalize_words(strip_punctuation(text)) == normalize_words(text)


@given(st.text(), st.integers(1, 99))
def test_a_placeholder_survives_every_transform(text: str, number: int) -> None:
    placeholder = f"[EMAIL_{number}]"
    for transform in (lowercase, strip_punctuation, stemmer()):
        assert transform(f"{text} {placeholder} {text}").count(placeholder) >= 1


@pytest.mark.parametrize("step", ["lowercase", "punctuation", "stems", "lemmas"])
def test_a_step_changes_the_customers_turns_and_never_the_answer(step: str) -> None:
    before = row("The Parcels, were LATE!", "The Parcels, were LATE!")
    [after], trail = run_step(step, [before], DataSettings())
    assert after.example.messages[0].content != before.example.messages[0].content
    assert after.example.messages[1] == before.example.messages[1]
    assert sum(trail.changes.values()) == trail.rows_changed == 1


def test_a_turn_of_punctuation_alone_is_not_emptied() -> None:
    [after], trail = run_step("punctuation", [row("???", "Yes?")], DataSettings())
    assert after.example.messages[0].content == "???"
    assert trail.rows_changed == 0


def test_each_row_is_stemmed_in_its_own_language() -> None:
    english = row("Where are the deliveries that I have been waiting for since yesterday", "Here")
    german = row("Wo bleiben die Lieferungen, auf die ich seit gestern warte, ist etwas passiert", "Hier")
    [first, second], _ = run_step("stems", [english, german], DataSettings(languages=["en", "de"]))
    assert "deliveri" in first.example.messages[0].content
    assert "liefer," in second.example.messages[0].content


@pytest.mark.parametrize("step", ["stems", "lemmas"])
@pytest.mark.parametrize("languages", [[], ["tlh"]])
def test_a_language_without_dictionary_is_a_config_error(step: str, languages: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"language"):
        run_step(step, [], DataSettings(languages=languages))
