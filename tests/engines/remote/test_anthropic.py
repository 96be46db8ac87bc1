"""Anthropic's protocol."""

from pathlib import Path
from typing import Any

import pytest

from tests.engines.asking import collect, outcome
from tests.engines.remote import provider as acts
from tests.engines.remote.asking import request, settings, story
from tests.engines.remote.provider import ANSWER, Provider, anthropic_events, sse, streams
from vivace.domain import Chunk, FunctionCall, Message, ToolCall, Usage
from vivace.engines.remote import RemoteEngine
from vivace.engines.remote.anthropic import AnthropicDialect
from vivace.errors import RequestError
from vivace.evaluate.metrics.tool_call import parse_calls

CALL = ToolCall("toolu_1", FunctionCall("find", '{"word": "key"}'))
OTHER = ToolCall("toolu_2", FunctionCall("close", ""))


def text_of(chunks: list[Chunk]) -> str:
    return "".join(each.text for each in chunks)


def answer(folder: Path, act: acts.Act, **given: Any) -> list[Chunk]:
    async def tell(engine: RemoteEngine, server: Provider) -> list[Chunk]:
        return await collect(engine, request())

    return story(folder, [act], tell, engine="anthropic", model="claude", **given)


def refusal(folder: Path, act: acts.Act) -> BaseException:
    async def tell(engine: RemoteEngine, server: Provider) -> BaseException:
        return await outcome(collect(engine, request()))

    return story(folder, [act], tell, engine="anthropic", model="claude", max_retries=0)


def body(*turns: Message, **sampling: Any) -> dict[str, Any]:
    return AnthropicDialect(settings(engine="anthropic", model="claude")).body(request(*turns, **sampling))


def test_an_answer_comes_piece_by_piece_and_ends_with_its_reason_and_usage(tmp_path: Path) -> None:
    chunks = answer(tmp_path, acts.claude)
    assert text_of(chunks) == ANSWER
    assert chunks[-1].finish_reason == "stop"
    # What was read from the cache was read all the same; the output is what the last event says.
    assert chunks[-1].usage == Usage(11, 6, 2)


def test_key_version_and_path_are_anthropics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_KEY", "claude-secret")

    async def tell(engine: RemoteEngine, server: Provider) -> acts.Seen:
        await collect(engine, request())
        return server.seen[0]

    seen = story(tmp_path, [acts.claude], tell, engine="anthropic", model="claude", api_key="env:CLAUDE_KEY")
    assert seen.path == "/v1/messages"
    assert seen.headers["x-api-key"] == "claude-secret"
    assert seen.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in seen.headers


def test_the_system_stands_apart_and_turns_of_one_side_become_one() -> None:
    turns = (
        Message("system", "Be brief."),
        Message("user", "Find it."),
        Message("user", "Please."),
        Message("assistant", "", tool_calls=(CALL, OTHER)),
        Message("tool", "found", tool_call_id="toolu_1"),
        Message("tool", "closed", tool_call_id="toolu_2"),
        Message("user", "And?"),
        Message("developer", "Be kind."),
    )
    written = body(*turns, max_tokens=9, temperature=0.3, top_p=0.8, stop=("END",), seed=3)
    assert written["system"] == "Be brief.\n\nBe kind."
    assert written["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Find it."}, {"type": "text", "text": "Please."}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"word": "key"}},
                {"type": "tool_use", "id": "toolu_2", "name": "close", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "closed"},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    rest = {key: value for key, value in written.items() if key not in ("system", "messages")}
    assert rest == {
        "model": "claude",
        "max_tokens": 9,
        "temperature": 0.3,
        "top_p": 0.8,
        "stop_sequences": ["END"],
        "stream": True,
    }


def test_tools_are_written_with_their_schema() -> None:
    tool = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": {"type": "object"}}}
    asked = request()
    asked = type(asked)(asked.id, asked.messages, tools=(tool,))
    written = AnthropicDialect(settings(engine="anthropic")).body(asked)
    assert written["tools"] == [{"name": "find", "input_schema": {"type": "object"}, "description": "Finds."}]


def test_what_the_protocol_cannot_say_is_refused_here() -> None:
    for turns, sampling, word in (
        ((Message("user", "x"),), {"temperature": 1.5}, "temperature"),
        ((Message("user", "x"),), {"ignore_eos": True}, "ignore_eos"),
        ((Message("system", "x"),), {}, "messages"),
        (
            (Message("assistant", tool_calls=(ToolCall("1", FunctionCall("find", "[1]")),)),),
            {},
            "messages",
        ),
    ):
        with pytest.raises(RequestError) as caught:
            body(*turns, **sampling)
        assert caught.value.param == word


def test_tool_calls_and_thoughts_are_told_and_not_told(tmp_path: Path) -> None:
    def block(index: int, **start: Any) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": start}

    def delta(index: int, **part: Any) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": part}

    values = [
        block(0, type="thinking", thinking=""),
        delta(0, type="thinking_delta", thinking="Hm."),
        delta(0, type="signature_delta", signature="abc"),
        block(1, type="text", text=""),
        delta(1, type="text_delta", text="Let me see."),
        block(2, type="tool_use", id="toolu_1", name="find", input={}),
        delta(2, type="input_json_delta", partial_json=""),
        delta(2, type="input_json_delta", partial_json='{"word": '),
        delta(2, type="input_json_delta", partial_json='"key"}'),
        {"type": "something_new", "index": 2},
    ]
    ends = anthropic_events((), stop="tool_use")
    events = [ends[0], *(sse(value, value["type"]) for value in values), *ends[-2:]]
    chunks = answer(tmp_path, streams(events))
    assert text_of(chunks).startswith("Let me see.")
    assert "Hm." not in text_of(chunks)
    assert parse_calls(text_of(chunks)) == [FunctionCall("find", '{"word": "key"}')]
    assert chunks[-1].finish_reason == "stop"


def test_an_answer_in_one_piece(tmp_path: Path) -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": ANSWER}],
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 9, "output_tokens": 6},
    }
    chunks = answer(tmp_path, acts.answers(message), stream=False)
    assert text_of(chunks) == ANSWER
    assert chunks[-1].finish_reason == "length"
    assert chunks[-1].usage == Usage(9, 6)


def test_a_refusal_is_no_answer(tmp_path: Path) -> None:
    error = refusal(tmp_path, streams(anthropic_events((), stop="refusal")))
    assert isinstance(error, RequestError)
    assert error.code == "content_filter"


def test_overload_is_told_as_a_status_and_in_the_stream(tmp_path: Path) -> None:
    said = {"type": "overloaded_error", "message": "Overloaded"}
    overloaded = {"type": "error", "error": said, "request_id": "req_1"}
    for act in (acts.answers(overloaded, 529), streams([anthropic_events()[0], sse(overloaded, "error")])):
        assert "is overloaded (HTTP 529" in str(refusal(tmp_path, act))

    async def tell(engine: RemoteEngine, server: Provider) -> tuple[str, int]:
        return text_of(await collect(engine, request())), len(server.seen)

    script = [acts.answers(overloaded, 529, retry_after="0"), streams([sse(overloaded, "error")]), acts.claude]
    assert story(tmp_path, script, tell, engine="anthropic", model="claude") == (ANSWER, 3)


def test_too_long_is_told_as_such(tmp_path: Path) -> None:
    said = {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}
    error = refusal(tmp_path, acts.answers({"type": "error", "error": said}, 400))
    assert isinstance(error, RequestError)
    assert error.code == "context_length_exceeded"


def test_a_stream_that_ends_without_its_reason_is_no_answer(tmp_path: Path) -> None:
    assert "did not say that it was complete" in str(refusal(tmp_path, streams(anthropic_events()[:-2])))
    assert text_of(answer(tmp_path, streams(anthropic_events()[:-1]))) == ANSWER  # the reason came: that is enough
