"""What a chat completion request may say, value by value."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.errors import RequestError
from vivace.serve.v1.parse import NOT_SUPPORTED, SUPPORTED, ChatCall, Limits, parse_chat

LIMITS = Limits(model_name="m", context_length=2048, default_max_tokens=256, max_choices=8)
HELLO = [{"role": "user", "content": "hi"}]


def parse(**fields: Any) -> ChatCall:
    return parse_chat(json.dumps({"model": "m", "messages": HELLO, **fields}).encode(), LIMITS, "c1")


def refusal(**fields: Any) -> tuple[str | None, str | None]:
    with pytest.raises(RequestError) as caught:
        parse(**fields)
    return caught.value.param, caught.value.code


def raw_refusal(body: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_chat(body, LIMITS, "c1")
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"text"',
        b"{",
        b"{} {}",
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": 1e999}',
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"seed": ' + b"9" * 100_000 + b"}",
    ],
)
def test_what_is_not_a_json_object_is_refused(body: bytes) -> None:
    assert raw_refusal(body).code == "invalid_json"


def test_a_refusal_of_broken_json_does_not_repeat_it() -> None:
    assert "secret" not in str(raw_refusal(b'{"messages": "secret, }'))


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
        ({"top_p": -1}, "top_p", "decimal_below_min_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 2**63}, "max_tokens", "integer_above_max_value"),
        ({"max_tokens": 2049}, "max_tokens", "integer_above_max_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "integer_below_min_value"),
        ({"max_completion_tokens": 3, "max_tokens": 4}, "max_tokens", "invalid_value"),
        ({"seed": 2**63}, "seed", "integer_above_max_value"),
        ({"seed": -(2**63) - 1}, "seed", "integer_below_min_value"),
        ({"seed": "1"}, "seed", "invalid_type"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"n": 9}, "n", "integer_above_max_value"),
        ({"n": True}, "n", "invalid_type"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": []}, "stop", "invalid_value"),
        ({"stop": ""}, "stop", "invalid_value"),
        ({"stop": ["a", 1]}, "stop[1]", "invalid_type"),
        ({"stop": "x" * 257}, "stop", "string_above_max_length"),
        ({"stop": {"a": 1}}, "stop", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"stream": True, "stream_options": []}, "stream_options", "invalid_type"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "unknown_parameter"),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "unsupported_parameter",
        ),
        ({"user": 3}, "user", "invalid_type"),
        ({"user": "x" * 513}, "user", "string_above_max_length"),
        ({"store": "no"}, "store", "invalid_type"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        ({"model": 5}, "model", "invalid_type"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": "gpt-4"}, "model", "model_not_found"),
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"logprobs": True}, "logprobs", "unsupported_parameter"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ({"frequency_penalty": False}, "frequency_penalty", "unsupported_parameter"),
    ],
)
def test_a_refusal_names_the_parameter_and_the_reason(fields: dict[str, Any], param: str, code: str) -> None:
    assert refusal(**fields) == (param, code)


@pytest.mark.parametrize("name", sorted(NOT_SUPPORTED))
def test_what_asks_for_nothing_is_accepted_and_the_rest_is_refused_as_unsupported(name: str) -> None:
    for neutral in (None, *NOT_SUPPORTED[name]):
        assert parse(**{name: neutral}).requests
    assert refusal(**{name: {"something": "else"}}) == (name, "unsupported_parameter")


@pytest.mark.parametrize("name", sorted(SUPPORTED - {"model", "messages"}))
def test_null_is_the_same_as_leaving_out(name: str) -> None:
    assert parse(**{name: None}) == parse()


@pytest.mark.parametrize(
    ("messages", "param", "code"),
    [
        (None, "messages", "invalid_type"),
        ("hi", "messages", "invalid_type"),
        ([], "messages", "empty_array"),
        ([HELLO[0]] * 2049, "messages", "array_above_max_length"),
        (["hi"], "messages[0]", "invalid_type"),
        ([{}], "messages[0].role", "missing_required_parameter"),
        ([{"role": "user"}], "messages[0].content", "missing_required_parameter"),
        ([{"role": "user", "content": None}], "messages[0].content", "missing_required_parameter"),
        ([HELLO[0], {"role": "king", "content": "x"}], "messages[1].role", "invalid_value"),
        ([{"role": "tool", "content": "x", "tool_call_id": "1"}], "messages[0].role", "unsupported_parameter"),
        ([{"role": "user", "content": 3}], "messages[0].content", "invalid_type"),
        ([{"role": "user", "content": []}], "messages[0].content", "empty_array"),
        ([{"role": "user", "content": "x", "name": "n" * 65}], "messages[0].name", "string_above_max_length"),
        ([{"role": "user", "content": "x", "mood": "good"}], "messages[0].mood", "unknown_parameter"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "messages[0].tool_calls", "unknown_parameter"),
        (
            [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}],
            "messages[0].tool_calls",
            "unsupported_parameter",
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}]}],
            "messages[0].content[1]",
            "unsupported_parameter",
        ),
    ],
)
def test_a_wrong_message_is_named_by_its_place(messages: Any, param: str, code: str) -> None:
    assert refusal(messages=messages) == (param, code)


@pytest.mark.parametrize(
    ("part", "field", "code"),
    [
        ({"type": "text"}, ".text", "missing_required_parameter"),
        ({"type": "text", "text": 1}, ".text", "invalid_type"),
        ({"type": "text", "text": "x", "more": 1}, ".more", "unknown_parameter"),
        ({"text": "x"}, ".type", "missing_required_parameter"),
        ({"type": "smell", "smell": 1}, ".type", "invalid_value"),
        ({"type": "refusal", "refusal": "no"}, ".type", "invalid_value"),
        ("x", "", "invalid_type"),
    ],
)
def test_a_wrong_part_is_named_by_its_place(part: Any, field: str, code: str) -> None:
    assert refusal(messages=[{"role": "user", "content": [part]}]) == (f"messages[0].content[0]{field}", code)


def test_text_parts_become_text() -> None:
    call = parse(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}])
    assert call.requests[0].messages[0].content == "a\nb"


def test_an_answer_that_is_sent_back_is_understood() -> None:
    echoed = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "tool_calls": None}
    assert parse(messages=[*HELLO, echoed, *HELLO]).requests[0].messages[1].content == "x"


def test_a_default_that_does_not_fit_the_context_is_not_the_clients_fault() -> None:
    assert parse().requests[0].sampling.max_tokens == 256
    assert parse(max_tokens=2048).requests[0].sampling.max_tokens == 2048


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**63 - 1])
def test_every_seed_of_64_bits_is_taken(seed: int) -> None:
    (request,) = parse(seed=seed).requests
    assert request.sampling.seed is not None
    assert 0 <= request.sampling.seed < 2**31


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(SUPPORTED | set(NOT_SUPPORTED))) | st.text(max_size=6), JSON, max_size=6))
def test_any_json_is_read_or_refused_by_name(fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "m", "messages": HELLO, **fields}).encode("utf-8", "surrogatepass")
    try:
        outcome: ChatCall | RequestError = parse_chat(body, LIMITS, "c1")
    except RequestError as error:
        outcome = error
    assert outcome.code if isinstance(outcome, RequestError) else 1 <= len(outcome.requests) <= 8


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_sentence(body: bytes) -> None:
    assert raw_refusal(body).code
