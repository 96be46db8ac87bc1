"""Tool calls are read in the formats that templates write, and compared by name and arguments."""

import asyncio
import json

import pytest

from tests.evaluate.fakes import SETTINGS, Characters, LikelyEngine, answered
from vivace.domain import Example, FunctionCall, Message, SilentProgress, ToolCall
from vivace.evaluate import METRICS
from vivace.evaluate.answering import answer_examples
from vivace.evaluate.answers import is_scorable
from vivace.evaluate.metric import per_example
from vivace.evaluate.metrics.tool_call import parse_calls, same_calls

WEATHER = FunctionCall("weather", '{"city": "Ulm", "days": 2}')
TIME = FunctionCall("time", "{}")

WRITTEN = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Ulm", "days": 2}}\n</tool_call>',
    "hermes, not closed": '<tool_call>{"name": "weather", "arguments": {"days": 2, "city": "Ulm"}}',
    "hermes with words": 'Let me look.<tool_call>{"name":"weather","arguments":{"city":"Ulm","days":2}}</tool_call>',
    "llama 3": '{"name": "weather", "parameters": {"city": "Ulm", "days": 2}}',
    "llama 3 with its tag": '<|python_tag|>{"name": "weather", "parameters": {"city": "Ulm", "days": 2.0}}',
    "mistral": '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Ulm", "days": 2}, "id": "a"}]',
    "mistral, newer": '[TOOL_CALLS]weather[ARGS]{"city": "Ulm", "days": 2}',
    "mistral without its mark": '[{"name": "weather", "arguments": {"city": "Ulm", "days": 2}}]',
    "openai": '{"type": "function", "function": {"name": "weather", '
    '"arguments": "{\\"city\\":\\"Ulm\\",\\"days\\":2}"}}',
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=list(WRITTEN))
def test_every_format_is_the_same_call(text):
    assert same_calls(parse_calls(text), [WEATHER])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The weather in Ulm is fine.",
        '{"city": "Ulm"}',
        '{"name": "Ulm"}',
        "<tool_call>weather</tool_call>",
        '{"name": "weather", "parameters": {"city": "Ulm"',
        "[TOOL_CALLS] none",
        "{" * 50_000,
        '[{"name": "weather", "arguments": {}}, 3]',
    ],
)
def test_what_is_no_call_is_none(text):
    assert parse_calls(text) == []


def test_several_calls_count_in_any_order_and_all_of_them_must_be_there():
    both = '{"name": "time", "parameters": {}}; {"name": "weather", "parameters": {"city": "Ulm", "days": 2}}'
    assert same_calls(parse_calls(both), [WEATHER, TIME])
    assert not same_calls(parse_calls(both), [WEATHER])
    assert not same_calls(parse_calls(WRITTEN["hermes"]), [WEATHER, WEATHER])
    assert not same_calls([FunctionCall("weather", '{"city": "Ulm", "days": "2"}')], [WEATHER])
    assert not same_calls([FunctionCall("weather", '{"city": "Ulm", "days": true}')], [FunctionCall("weather", "1")])
    assert same_calls([FunctionCall("time", "")], [TIME])


def test_names_may_be_right_where_arguments_are_not():
    calls = (ToolCall("c1", WEATHER),)
    wrong = '<tool_call>{"name": "weather", "arguments": {"city": "Bonn", "days": 2}}</tool_call>'
    answers = [
        answered(0, WRITTEN["mistral"], "", wanted_calls=calls),
        answered(1, wrong, "", wanted_calls=calls),
        answered(2, WRITTEN["mistral"], "", wanted_calls=calls, error="cut"),
        answered(3, "Hello", "Hello"),
        answered(4, "", "", wanted_calls=calls, calls_error="The model's chat template writes no tool calls."),
    ]
    for name, wanted in (("tool_call_accuracy", [1, 0, 0]), ("tool_name_accuracy", [1, 1, 0])):
        metric = METRICS.load(name)
        chosen = metric.scored(answers)
        assert per_example(metric, metric.rows(chosen)) == wanted
    assert metric.why_missing(answers[3:4]) == "No reference calls a tool."
    assert metric.why_missing(answers[4:]) == "The model's chat template writes no tool calls."


class Calling(Characters):
    """Writes tool calls as Hermes does."""

    def encode_chat(self, messages, *, add_generation_prompt=True, tools=()):
        written = [
            Message(
                turn.role,
                turn.content
                + "".join(
                    f'<tool_call>{{"name": "{call.function.name}", "arguments": {call.function.arguments}}}</tool_call>'
                    for call in turn.tool_calls
                ),
            )
            for turn in messages
        ]
        return super().encode_chat(written, add_generation_prompt=add_generation_prompt)

    def decode(self, ids):
        return "".join(map(chr, ids))


def _ask(engine, example, folder):
    work = answer_examples(
        engine, lambda each: each, [("k", [example])], SETTINGS, folder / "journal.jsonl", SilentProgress()
    )
    return asyncio.run(work)["k"][0]


CALLED = Example(
    "calls",
    (Message("user", "Weather in Ulm?"), Message("assistant", "", tool_calls=(ToolCall("c", WEATHER),))),
    "test",
)


def test_an_example_that_ends_in_a_call_is_asked_where_the_template_writes_calls(tmp_path):
    assert is_scorable(CALLED)
    engine = LikelyEngine(lambda _: WRITTEN["hermes"])
    engine.tokenizer = Calling()
    got = _ask(engine, CALLED, tmp_path)
    assert got.error is None
    assert got.calls_error is None
    assert per_example(METRICS.load("tool_call_accuracy"), METRICS.load("tool_call_accuracy").rows([got])) == [1]
    assert got.token_count > len(json.dumps(WEATHER.arguments))


def test_an_example_that_ends_in_a_call_is_not_asked_where_the_template_writes_none(tmp_path):
    engine = LikelyEngine(lambda _: "anything")
    got = _ask(engine, CALLED, tmp_path)
    assert engine.asked == []
    assert got.calls_error == got.likelihood_error == "The model's chat template writes no tool calls."
    assert not got.failed


def test_calls_in_an_unknown_format_are_not_taken_for_the_models_mistake(tmp_path):
    class Strange(Calling):
        def encode_chat(self, messages, *, add_generation_prompt=True, tools=()):
            written = [
                Message(turn.role, turn.content + "".join(f"~{call.function.name}~" for call in turn.tool_calls))
                for turn in messages
            ]
            return super().encode_chat(written, add_generation_prompt=add_generation_prompt)

    engine = LikelyEngine(lambda _: "anything")
    engine.tokenizer = Strange()
    assert _ask(engine, CALLED, tmp_path).calls_error == (
        "The model's chat template writes tool calls in a form that is not read here."
    )
