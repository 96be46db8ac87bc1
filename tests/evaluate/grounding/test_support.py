"""Claims beside their sources: what is there, what is denied, what was made up."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.domain import SilentProgress
from vivace.errors import DataError
from vivace.evaluate.grounding.answers import Grounded, measure_grounding, read_answers
from vivace.evaluate.grounding.facts import claims, codes, is_claim, names, numbers
from vivace.evaluate.grounding.page import markdown, page
from vivace.evaluate.grounding.support import WORDS_ALONE, Weights, faithfulness

HOTEL = (
    "Breakfast is served from 7 am to 10 am and costs 12.50 euros per person. Parking is free for guests.",
    "The Lensfield Hotel has 30 rooms. Call Anna at the desk for a taxi.",
)


def labels(answer: str, sources=HOTEL) -> list[str]:
    return [claim.label for claim in faithfulness("x", answer, sources).claims]


def test_what_the_sources_say_is_supported() -> None:
    assert labels("Breakfast is served from 7 am to 10 am. Parking is free for guests.") == ["supported"] * 2


def test_another_number_than_the_sources_contradicts_and_is_named() -> None:
    (claim,) = faithfulness("x", "Breakfast costs 15 euros per person.", HOTEL).claims
    assert claim.label == "contradicted"
    assert claim.missing == ("15",)
    assert claim.source == 0
    assert claim.nearest.startswith("Breakfast is served")


def test_a_number_that_no_source_is_near_to_is_made_up() -> None:
    assert labels("The swimming pool is 25 meters long.") == ["unsupported"]


def test_another_name_than_the_sources_contradicts() -> None:
    assert labels("The Lensfield Hotel has 30 rooms. Call Bertha at the desk for a taxi.")[1] == "contradicted"


def test_what_no_source_says_is_unsupported_and_without_sources_everything_is() -> None:
    assert labels("Pets may sleep in the garden.") == ["unsupported"]
    assert labels("Parking is free for guests.", ()) == ["unsupported"]


def test_questions_and_small_talk_claim_nothing() -> None:
    found = faithfulness("x", "Would you like to book? You are.", HOTEL)
    assert [claim.label for claim in found.claims] == ["no claim"] * 2
    assert found.share is None


def test_meaning_finds_what_words_do_not() -> None:
    class Alike:
        def embed(self, texts):
            return np.tile(np.array([[1.0, 0.0]], np.float32), (len(texts), 1))

    weights = Weights(-1.0, (0.0, 0.0, 0.0, 0.0, 3.0), 0.5)
    assert faithfulness("x", "Cars stand there at no charge.", HOTEL, Alike(), weights).share == 1
    assert faithfulness("x", "Cars stand there at no charge.", HOTEL, None, weights).share == 0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It costs 1,200.50 euros", {"1200.5"}),
        ("from 7 pm to 10:30 p.m.", {"19:00", "22:30"}),
        ("at 19:00", {"19:00"}),
        ("12 am and 12 pm", {"00:00", "12:00"}),
        ("three rooms, this one", {"3"}),
        ("£45 or 45.00", {"45"}),
        ("no number", set()),
    ],
)
def test_numbers_are_written_one_way(text: str, wanted: set[str]) -> None:
    assert numbers(text) == wanted


def test_sentences_end_where_people_end_them() -> None:
    text = "It is on St. John Street, e.g. near the park. It costs 3.50 euros!\n- free wifi\n2. a pool\nReally? Yes."
    assert claims(text) == [
        "It is on St. John Street, e.g. near the park.",
        "It costs 3.50 euros!",
        "free wifi",
        "a pool",
        "Really?",
        "Yes.",
    ]
    assert [is_claim(each) for each in claims(text)][4] is False


def test_names_and_codes_are_found_but_not_the_first_word_of_a_sentence() -> None:
    assert names("Breakfast at Hobsons House is fine.") == {"hobson", "hous"}
    assert codes("Order AB-1234, mail a.b@shop.com, see www.shop.com.") == {"ab-1234", "a.b@shop.com", "www.shop.com"}


@given(st.text(max_size=80), st.lists(st.text(max_size=80), max_size=3))
def test_any_text_has_a_verdict_and_no_sentence_is_lost(answer: str, sources: list[str]) -> None:
    found = faithfulness("x", answer, sources)
    assert [claim.text for claim in found.claims] == claims(answer)
    assert all(0 <= claim.probability <= 1 for claim in found.claims)


@given(st.lists(st.sampled_from(HOTEL[0].split(". ")), min_size=1, max_size=2, unique=True))
def test_a_sentence_of_the_source_is_always_supported(sentences: list[str]) -> None:
    assert set(labels(". ".join(sentences))) == {"supported"}


def test_figures_have_intervals_and_unsupported_claims_are_marked_in_the_report() -> None:
    rows = [
        Grounded("good", "Parking is free for guests.", HOTEL),
        Grounded("bad", "Breakfast costs 15 euros per person. <b>Pets</b> may sleep in the garden.", HOTEL),
        Grounded("bare", "Parking is free.", ()),
    ]
    found = measure_grounding(rows, None, "", SilentProgress(), resamples=200)
    assert found.faithful.value == pytest.approx(1 / 4)
    assert found.whole.value == pytest.approx(1 / 3)
    assert found.counts == {"supported": 1, "contradicted": 1, "unsupported": 2, "no claim": 0}
    assert found.sourceless == ("bare",)
    html, text = page(found), markdown(found)
    assert html.count('<mark class="contradicted"') == 1
    assert html.count('<mark class="unsupported"') == 2
    assert "<b>" not in html
    assert "✗✗ Breakfast costs 15 euros" in text
    assert "in no source: 15" in text
    assert "looked up, not understood" in text


def test_all_supported_is_no_certainty() -> None:
    rows = [Grounded(str(n), "Parking is free for guests.", HOTEL) for n in range(10)]
    found = measure_grounding(rows, None, "", SilentProgress())
    assert found.faithful.value == 1
    assert found.faithful.interval.low < 0.8


def test_what_it_cannot_see_stays_as_it_is_told() -> None:
    assert labels("Parking is not free for guests.") == ["supported"]  # a denial: docs/evaluate.md says so


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("7", "a int"),
        ('{"sources": []}', "no 'answer'"),
        ('{"answer": 7, "sources": []}', "answer is 7"),
        ('{"answer": "a"}', "no list"),
        ('{"answer": "a", "sources": "b"}', "a list of texts"),
        ('{"answer": "a", "sources": [7]}', "neither text"),
        ('{"id": "one", "answer": "a", "sources": []}', "a second time"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "one", "answer": "a", "sources": [{"text": "b"}]}\n' + line + "\n")
    with pytest.raises(DataError, match=told) as caught:
        read_answers(path)
    assert "line 2" in str(caught.value)


def test_the_weights_have_a_threshold_between_0_and_1() -> None:
    assert len(WORDS_ALONE.weights) == 4
    assert 0 < WORDS_ALONE.threshold < 1
