"""Templates fill in names, execute nothing, and say which name is wrong."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.errors import ConfigError, DataError
from vivace.evaluate.graders.case import Case
from vivace.evaluate.graders.template import NotSaid, parse_template

CASE = Case(
    "example-001",
    {"reference": "Berlin", "label": "a{{ item.id }}", "tags": ["x", {"deep": 1.5}], "id": "example-001"},
    {"output_text": "Paris", "output_json": {"city": {"name": "Paris"}, "n": [1, 2]}},
)


def fill(text: str) -> str:
    return parse_template(text, "The input of grader 'g'").fill(CASE)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("no holes", "no holes"),
        ("{{ item.reference }} and {{sample.output_text}}.", "Berlin and Paris."),
        ("{{ sample.output_json.city.name }}", "Paris"),
        ("{{ sample.output_json['city']['name'] }}", "Paris"),
        ("{{ sample.output_json.n[1] }} {{ item.tags[1].deep }}", "2 1.5"),
        ("{{ item.tags }}", '["x", {"deep": 1.5}]'),
        ("{{ item.label }}", "a{{ item.id }}"),
        ("a { b } }} c", "a { b } }} c"),
        ("", ""),
    ],
)
def test_names_are_filled_in_once(text, filled):
    assert fill(text) == filled


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ itme.reference }}", r"there is no 'itme'\. Did you mean 'item'\?"),
        ("{{ sample.output_txt }}", r"a sample has no 'output_txt'\. Did you mean 'output_text'\?"),
        ("{{ item.reference | upper }}", "more than a name"),
        ("{{ item.reference.upper() }}", "more than a name"),
        ("{{ item.__class__.__mro__[1].__subclasses__() }}", "more than a name"),
        ("{{ 1 + 1 }}", "which names nothing"),
        ("{{ }}", "which names nothing"),
        ("{% for a in item %}", "only {{ item.… }}"),
        ("{{ item.reference", "only {{ item.… }}"),
    ],
)
def test_anything_else_is_refused_before_it_is_used(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_template(text, "The input of grader 'g'")


def test_a_name_that_an_example_lacks_is_an_error_with_the_nearest_one():
    with pytest.raises(DataError, match=r"asks for item\.refernce, and example 'example-001' has none") as caught:
        fill("{{ item.refernce }}")
    assert caught.value.hint == "Did you mean 'reference'?"
    with pytest.raises(DataError, match=r"item\.__class__"):
        fill("{{ item.__class__ }}")


def test_what_an_answer_lacks_is_the_answers_fault():
    for text in ("{{ sample.output_json.town }}", "{{ sample.output_json.n[7] }}", "{{ sample.output_json.n.x }}"):
        with pytest.raises(NotSaid):
            fill(text)


@given(st.text(st.sampled_from("{}%#. item[]'0sample_a|()"), max_size=40))
def test_no_text_does_anything_but_fill_or_be_refused(text):
    with suppress(ConfigError, DataError, NotSaid):
        assert isinstance(fill(text), str)
