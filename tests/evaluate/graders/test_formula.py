"""Formulas compute, and nothing else: no name, attribute or call gets through."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.errors import ConfigError
from vivace.evaluate.graders.formula import parse_formula

NUMBERS = {"first": 0.5, "second": 2.0, "zero": 0.0}


def value(text: str) -> float | str:
    return parse_formula(text, list(NUMBERS), "The grader 'm'").value(NUMBERS)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0.5 * first + 0.5 * second", 1.25),
        ("(first + second) / 2", 1.25),
        ("3 * second ^ 2", 12.0),
        ("-second ^ 2", -4.0),
        ("min(first, second, 1)", 0.5),
        ("max(first, second)", 2.0),
        ("abs(-first) + floor(second + 0.9) + ceil(first)", 3.5),
        ("sqrt(second * 2) + log(exp(1))", 3.0),
    ],
)
def test_arithmetic_is_arithmetic(text, wanted):
    assert value(text) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("frist + 1", r"names 'frist', and no grader is called so\. Did you mean 'first'\?"),
        ("__import__('os').system('ls')", "more than arithmetic"),
        ("open('x')", "no function 'open'"),
        ("first.real", "more than arithmetic"),
        ("[1][0]", "more than arithmetic"),
        ("first if second else zero", "more than arithmetic"),
        ("(lambda: 1)()", "more than arithmetic"),
        ("'a' * 9", "more than arithmetic"),
        ("True + 1", "more than arithmetic"),
        ("first // 2", "more than arithmetic"),
        ("first <", "cannot be read"),
        ("0.5 * first)", "cannot be read"),
        ("", "cannot be read"),
        ("sqrt(1, 2)", "gives sqrt 2 numbers"),
        ("min()", "gives min 0 numbers"),
        ("max(first, key=abs)", "more than arithmetic"),
        ("9" * 400, "too large"),
        ("+" * 60 + "1", "nested too deeply"),
        ("(" * 300 + "1" + ")" * 300, "cannot be read"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_formula(text, list(NUMBERS), "The grader 'm'")


@pytest.mark.parametrize(
    "text", ["first / zero", "log(zero)", "sqrt(-second)", "9 ^ 9 ^ 9 ^ 9", "exp(999)", "zero ^ -1"]
)
def test_no_value_is_a_sentence(text):
    assert isinstance(value(text), str)


@given(st.text(st.sampled_from("first second+-*/^() 0123456789.,minaxboslqrt_'[]{}:"), max_size=30))
def test_every_text_is_a_finite_number_a_sentence_or_refused(text):
    try:
        found = value(text)
    except ConfigError:
        return
    assert isinstance(found, str) or math.isfinite(found)
