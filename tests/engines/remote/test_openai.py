"""OpenAI's protocol, as each of its servers speaks it."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.engines.asking import collect, outcome
from tests.engines.remote import provider as acts
from tests.engines.remote.asking import request, settings, story
from tests.engines.remote.provider import ANSWER, Provider, chunk, openai_events, sse, streams
from vivace.domain import Chunk, FunctionCall, Likelihood, Message, ToolCall, Usage
from vivace.engines.remote import RemoteEngine
from vivace.engines.remote.openai import OpenAIDialect
from vivace.errors import EngineError, RequestError
from vivace.evaluate.metrics.tool_call import parse_calls

TOOL = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": {"type": "object"}}}


def text_of(chunks: list[Chunk]) -> str:
    return "".join(each.text for each in chunks)


def answer(folder: Path, *events: bytes, **given: Any) -> list[Chunk]:
    async def tell(engine: RemoteEngine, server: Provider) -> list[Chunk]:
        return await collect(engine, request())

    return story(folder, [streams(list(events))], tell, **given)


def refusal(folder: Path, act: acts.Act, **given: Any) -> BaseException:
    async def tell(engine: RemoteEngine, server: Provider) -> BaseException:
        return await outcome(collect(engine, request()))

    return story(folder, [act], tell, **{"max_retries": 0} | given)


def test_an_answer_comes_piece_by_piece_and_ends_with_its_reason_and_usage(tmp_path: Path) -> None:
    chunks = answer(tmp_path, *openai_events())
    assert text_of(chunks) == ANSWER
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage == Usage(11, 4, 3)
    assert all(each.finish_reason is None and each.usage is None for each in chunks[:-1])
    assert all(each.text for each in chunks[:-1])


def test_the_first_token_is_given_on_before_the_second_is_there(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> str:
        async with aclosing(engine(request())) as chunks:
            return (await anext(chunks)).text

    assert story(tmp_path, [streams(openai_events()[:2], then="hang")], tell) == "Good"


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_network_cuts_where_it_likes(tmp_path: Path, size: int) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> str:
        return text_of(await collect(engine, request()))

    assert story(tmp_path, [streams(openai_events(), cut=size)], tell) == ANSWER


def test_a_request_says_everything_in_the_protocol() -> None:
    call = ToolCall("call_1", FunctionCall("find", '{"word": "key"}'))
    asked = request(
        Message("developer", "Be brief."),
        Message("user", "Find it.", name="ann"),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "found", tool_call_id="call_1"),
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        stop=("END",),
        seed=3,
    )
    asked = type(asked)(asked.id, asked.messages, sampling=asked.sampling, tools=(TOOL,))
    body = OpenAIDialect(settings(extra={"top_k": 5}, fields={"seed": "random_seed"})).body(asked)
    assert body == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Find it.", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"word": "key"}'}}
                ],
            },
            {"role": "tool", "content": "found", "tool_call_id": "call_1"},
        ],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "random_seed": 3,
        "tools": [TOOL],
        "stream": True,
        "stream_options": {"include_usage": True},
        "top_k": 5,
    }


def test_a_server_that_does_not_stream_answers_in_one_piece(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> tuple[list[Chunk], Any]:
        return await collect(engine, request()), server.seen[0].body.get("stream")

    for wanted in (True, False):  # asked to stream, it may answer whole all the same
        chunks, asked = story(tmp_path, [acts.answers(acts.completion())], tell, stream=wanted)
        assert text_of(chunks) == ANSWER
        assert chunks[-1].usage == Usage(11, 4, 3)
        assert asked is (True if wanted else None)


def test_usage_that_is_not_told_is_not_invented(tmp_path: Path, tiny_model: Path) -> None:
    assert answer(tmp_path, *openai_events(usage=None))[-1].usage is None
    counted = answer(tmp_path, *openai_events(usage=None), tokenizer=str(tiny_model))[-1].usage
    assert counted is not None
    assert counted.completion_tokens > 0 < counted.prompt_tokens
    # What was thought and not told cannot be counted.
    thought = sse(chunk({"reasoning_content": "Hm."}))
    assert answer(tmp_path, thought, *openai_events(usage=None), tokenizer=str(tiny_model))[-1].usage is None


def test_tool_calls_are_told_as_local_models_write_them(tmp_path: Path) -> None:
    def part(index: int, **function: str) -> dict[str, Any]:
        more = {"id": f"call_{index}", "type": "function"} if "name" in function else {}
        return {"tool_calls": [{"index": index, **more, "function": function}]}

    parts = [part(0, name="find", arguments=""), part(0, arguments='{"wo'), part(0, arguments='rd": 1}')]
    parts.append(part(1, name="close", arguments="{}"))
    events = [sse(chunk({"role": "assistant", "content": None})), *(sse(chunk(each)) for each in parts)]
    chunks = answer(tmp_path, *events, sse(chunk({}, "tool_calls")), b"data: [DONE]\n\n")
    assert parse_calls(text_of(chunks)) == [FunctionCall("find", '{"word": 1}'), FunctionCall("close", "{}")]
    assert chunks[-1].finish_reason == "stop"


def test_calls_that_are_all_counted_nought_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    calls = [
        {"id": f"call_{name}", "index": 0, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name in ("find", "close")
    ]
    events = [sse(chunk({"role": "assistant", "content": "", "tool_calls": [call]})) for call in calls]
    chunks = answer(tmp_path, *events, sse(chunk({"content": ""}, "tool_calls")), b"data: [DONE]\n\n")
    assert [call.name for call in parse_calls(text_of(chunks))] == ["find", "close"]


def test_what_is_thought_is_not_told(tmp_path: Path) -> None:
    for name in ("reasoning_content", "reasoning"):
        events = [sse(chunk({name: "First, "})), *openai_events()]
        assert text_of(answer(tmp_path, *events)) == ANSWER
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"type": "text", "text": "Yes"}]
    events = [sse(chunk({"content": parts})), sse(chunk({}, "stop"))]
    assert text_of(answer(tmp_path, *events)) == "Yes"


def test_of_several_choices_the_first_is_told(tmp_path: Path) -> None:
    other = chunk({"content": "other"})
    other["choices"][0]["index"] = 1
    events = openai_events()
    assert text_of(answer(tmp_path, events[0], sse(other), *events[1:])) == ANSWER


@pytest.mark.parametrize(
    ("said", "meant"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "stop"), ("eos_token", "stop"), ("model_length", "length")],
)
def test_reasons_for_the_end_are_translated(tmp_path: Path, said: str, meant: str) -> None:
    assert answer(tmp_path, *openai_events(finish=said))[-1].finish_reason == meant


def test_reasons_that_are_none_are_errors(tmp_path: Path) -> None:
    filtered = refusal(tmp_path, streams(openai_events(finish="content_filter")))
    assert isinstance(filtered, RequestError)
    assert filtered.code == "content_filter"
    strange = refusal(tmp_path, streams(openai_events(finish="abort")))
    assert isinstance(strange, EngineError)
    assert "'abort'" in str(strange)


def test_a_second_reason_changes_nothing_and_more_text_after_the_end_is_an_error(tmp_path: Path) -> None:
    events = openai_events()
    assert answer(tmp_path, *events[:-1], sse(chunk({"content": ""}, "length")), events[-1])[-1].finish_reason == "stop"
    error = refusal(tmp_path, streams([*events[:-1], sse(chunk({"content": "more"})), events[-1]]))
    assert "after it had ended" in str(error)


def test_stop_strings_that_a_server_overlooks_are_cut_here(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> list[Chunk]:
        return await collect(engine, request(stop=("orning, Z",)))

    chunks = story(tmp_path, [acts.fine], tell)
    assert text_of(chunks) == "Good m"
    assert chunks[-1].finish_reason == "stop"
    assert chunks[-1].usage is None  # the server would have told it later


# The dialects: bodies written after the servers' documentation and sources.


def test_azure_begins_without_choices_and_wants_its_version_and_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_KEY", "azure-secret")
    first = chunk(None, prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}])
    part = chunk({"content": "Good"})
    part["choices"][0]["content_filter_results"] = {"hate": {"filtered": False, "severity": "safe"}}

    async def tell(engine: RemoteEngine, server: Provider) -> tuple[str, Any]:
        return text_of(await collect(engine, request())), server.seen[0]

    text, seen = story(
        tmp_path,
        [streams([sse(first), sse(part), sse(chunk({}, "stop")), b"data: [DONE]\n\n"])],
        tell,
        api_key="env:AZURE_KEY",
        api_version="2024-10-21",
    )
    assert text == "Good"
    assert seen.path == "/v1/chat/completions?api-version=2024-10-21"
    assert seen.headers["api-key"] == "azure-secret"
    assert "authorization" not in seen.headers


def test_azures_filter_refuses_a_conversation(tmp_path: Path) -> None:
    body = {
        "error": {
            "message": "The response was filtered due to the prompt triggering our content management policy.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation"},
        }
    }
    error = refusal(tmp_path, acts.answers(body, 400))
    assert isinstance(error, RequestError)
    assert error.code == "content_filter"


def test_llama_cpp_adds_its_timings_and_names_its_type_of_error(tmp_path: Path) -> None:
    ending = chunk(None, usage=acts.USAGE, timings={"prompt_n": 11, "predicted_per_second": 50.1})
    events = [*openai_events(usage=None)[:-1], sse(ending), b"data: [DONE]\n\n"]
    assert answer(tmp_path, *events)[-1].usage == Usage(11, 4, 3)
    body = {
        "error": {
            "code": 400,
            "message": "the request exceeds the available context size, try increasing it",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 5000,
            "n_ctx": 4096,
        }
    }
    error = refusal(tmp_path, acts.answers(body, 400))
    assert isinstance(error, RequestError)
    assert error.code == "context_length_exceeded"


TOO_LONG = {
    "openai": {"error": {"message": "This model's maximum context length is 8192 tokens.", "type":
               "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}},
    "vllm": {"object": "error", "message": "This model's maximum context length is 2048 tokens. However, you "
             "requested 3000 tokens.", "type": "BadRequestError", "param": None, "code": 400},
    "tgi": {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 "
            "`inputs` tokens and 256 `max_new_tokens`", "error_type": "validation"},
    "mistral": {"object": "error", "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model "
                "with 32768 maximum context length", "type": "invalid_request_prompt", "param": None, "code": "3051"},
}  # fmt: skip


@pytest.mark.parametrize("server", TOO_LONG)
def test_each_server_says_too_long_in_its_own_way(tmp_path: Path, server: str) -> None:
    error = refusal(tmp_path, acts.answers(TOO_LONG[server], 422 if server == "tgi" else 400))
    assert isinstance(error, RequestError)
    assert error.code == "context_length_exceeded"
    assert "context_length in [models.providers.gpt]" in str(error)


def test_mistrals_detail_names_the_field_and_how_to_leave_it_out(tmp_path: Path) -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 3}]
    error = refusal(tmp_path, acts.answers({"object": "error", "message": {"detail": detail}}, 422))
    assert isinstance(error, RequestError)
    assert error.param == "seed"
    assert "seed: Extra inputs are not permitted" in str(error)
    assert 'fields = { seed = "" }' in str(error)


def test_a_server_without_stream_options_is_asked_without_them(tmp_path: Path) -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]

    async def tell(engine: RemoteEngine, server: Provider) -> list[bool]:
        for _ in range(2):
            assert text_of(await collect(engine, request())) == ANSWER
        return ["stream_options" in each.body for each in server.seen]

    # Learned once, and then known.
    script = [acts.answers({"detail": detail}, 422), acts.fine]
    assert story(tmp_path, script, tell, max_retries=0) == [True, False, False]


def test_newer_models_of_openai_are_told_max_completion_tokens(tmp_path: Path) -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    kind = {"type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter"}
    refuses = acts.answers({"error": {"message": message} | kind}, 400)

    async def refuse_old(exchange: acts.Exchange) -> None:
        await (refuses if "max_tokens" in exchange.seen.body else acts.fine)(exchange)

    async def tell(engine: RemoteEngine, server: Provider) -> None:
        chunks = await asyncio.gather(*(collect(engine, request(max_tokens=9)) for _ in range(4)))
        assert {text_of(each) for each in chunks} == {ANSWER}  # all four, though all were refused at first
        assert server.seen[-1].body["max_completion_tokens"] == 9
        assert "max_tokens" not in server.seen[-1].body

    story(tmp_path, [refuse_old], tell, max_retries=0)


def test_ollama_names_the_model_it_has_not(tmp_path: Path) -> None:
    body = {"error": {"message": 'model "gpt-4o" not found, try pulling it first', "type": "api_error", "code": None}}
    error = refusal(tmp_path, acts.answers(body, 404))
    assert "has no model 'gpt-4o' at http://127.0.0.1" in str(error)
    assert "try pulling it first" in str(error)


def test_an_error_in_the_middle_of_a_stream_is_an_error(tmp_path: Path) -> None:
    beginning = openai_events()[:3]
    for wrong in (
        {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}},
        {"error": "Request failed during generation: CUDA error", "error_type": "generation"},
    ):
        error = refusal(tmp_path, streams([*beginning, sse(wrong)]))
        assert isinstance(error, EngineError)
        assert "is in trouble" in str(error)


def test_an_engine_that_tells_no_likelihoods_does_not_look_like_one_that_does(tmp_path: Path, tiny_model: Path) -> None:
    async def plain(engine: RemoteEngine, server: Provider) -> bool:
        return isinstance(engine, Likelihood)

    assert story(tmp_path, [acts.fine], plain) is False

    async def vllm(exchange: acts.Exchange) -> None:
        rows = [
            {str(token): {"logprob": -0.5 * place, "rank": place, "decoded_token": "x"}}
            for place, token in enumerate(exchange.seen.body["prompt"])
        ]
        await exchange.whole({"choices": [{"index": 0, "text": "", "prompt_logprobs": [None, *rows[1:]]}]})

    async def likely(engine: RemoteEngine, server: Provider) -> Any:
        assert isinstance(engine, Likelihood)
        return await engine.token_choices((5, 6, 7), (8, 9))  # type: ignore[attr-defined]

    given = {"likelihood": True, "tokenizer": str(tiny_model)}
    assert story(tmp_path, [vllm], likely, **given) == ([-1.5, -2.0], [False, False])

    async def never(engine: RemoteEngine, server: Provider) -> None:
        raise AssertionError("it was opened")

    with pytest.raises(EngineError, match="tells no likelihoods"):
        story(tmp_path, [acts.answers({"choices": [{"text": "x", "logprobs": None}]})], never, **given)
