"""POST /v1/chat/completions through OpenAI's own client and by hand."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.serve.fakes import MODEL, ScriptedEngine, Served, app_of, chat_head, read_all, serving, wait_until, with_echo
from vivace.engines import ProcessEngine


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def served(engine: ScriptedEngine) -> Iterator[Served]:
    with serving(app_of(engine, max_queue=8)) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="not-needed", max_retries=0, timeout=20) as made:
        yield made


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_official_client_gets_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=user("where is my order"))
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.choices[0].message.content == "where is my order"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 4, 11)
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


def test_an_answer_has_exactly_openais_fields(served: Served) -> None:
    status, answer, headers = served.chat()
    assert (status, headers["content-type"]) == (200, "application/json")
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"]
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello there", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert answer["system_fingerprint"].startswith("fp_")


def test_the_official_client_streams_the_same_answer(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=user("where is my order"), stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "where is my order"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_only_if_asked(client: openai.OpenAI) -> None:
    *others, last = client.chat.completions.create(
        model=MODEL, messages=user("a b"), stream=True, stream_options={"include_usage": True}
    )
    assert last.choices == []
    assert last.usage.total_tokens == 7
    assert all(chunk.usage is None for chunk in others)


def test_a_stream_is_server_sent_events_to_the_letter(served: Served) -> None:
    client = served.send_chat(stream=True, max_tokens=2)
    client.settimeout(5)
    received = b""
    while b"[DONE]" not in received:
        received += client.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"text/event-stream" in head
    lines = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    assert lines[-1] == b"data: [DONE]"
    events = [json.loads(line[6:]) for line in lines[:-1]]
    assert all("usage" not in event for event in events)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert events[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    client.close()


@pytest.mark.parametrize("stream", [False, True])
def test_several_answers_are_several_requests(client: openai.OpenAI, engine: ScriptedEngine, stream: bool) -> None:
    made = client.chat.completions.create(model=MODEL, messages=user("a b c"), n=3, seed=5, stream=stream)
    texts = ["", "", ""]
    if stream:
        for chunk in made:
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    else:
        assert [choice.index for choice in made.choices] == [0, 1, 2]
        texts = [choice.message.content for choice in made.choices]
        assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (6, 9)
    assert texts == ["a b c"] * 3
    assert [request.sampling.seed for request in engine.seen] == [5, 6, 7]
    assert len({request.id for request in engine.seen}) == 3


def test_what_the_client_asks_for_reaches_the_engine(client: openai.OpenAI, engine: ScriptedEngine) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "developer", "content": "Be brief."}, *user("hi")],
        max_completion_tokens=9,
        temperature=0.5,
        top_p=0.25,
        stop=["\n", "END"],
        seed=3,
        user="u1",
        metadata={"team": "a"},
        store=True,
    )
    (request,) = engine.seen
    assert [message.role for message in request.messages] == ["system", "user"]
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (9, 0.5, 0.25)
    assert (sampling.stop, sampling.seed) == (("\n", "END"), 3)
    assert request.metadata == {"team": "a", "user": "u1"}


def test_what_the_client_leaves_out_is_greedy_and_bounded(served: Served, engine: ScriptedEngine) -> None:
    assert served.chat()[0] == 200
    assert engine.seen[0].sampling.temperature == 0
    assert engine.seen[0].sampling.max_tokens == 512


def test_wrong_requests_raise_the_clients_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=user("hi"), temperature=3)
    assert (bad.value.param, bad.value.code) == ("temperature", "decimal_above_max_value")
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4", messages=user("hi"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=MODEL, messages=user("too-long"))
    assert (long.value.param, long.value.code) == ("messages", "context_length_exceeded")
    with pytest.raises(openai.InternalServerError) as busy:
        client.chat.completions.create(model=MODEL, messages=user("busy"))
    assert (busy.value.status_code, busy.value.response.headers["retry-after"]) == (503, "8")
    with pytest.raises(openai.InternalServerError) as bug:
        client.chat.completions.create(model=MODEL, messages=user("bug"))
    assert bug.value.status_code == 500


def test_a_failure_before_the_first_piece_of_a_stream_has_its_own_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=user("too-long"), stream=True)


def test_a_stream_that_breaks_off_ends_with_an_error_event(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=user("crash-midway b c d"), stream=True)
    texts = [next(stream).choices[0].delta.content for _ in range(3)]
    with pytest.raises(openai.APIError, match="engine stopped"):
        next(stream)
    assert "".join(texts) == "crash-midway b"


def test_a_bug_is_logged_by_its_place_without_the_prompt(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    status, answer, _ = served.chat(messages=user("bug"))
    assert status == 500
    assert answer["error"]["message"] == "The server had an error while processing your request."
    assert "ValueError in ScriptedEngine._misbehave" in caplog.text
    assert "4111" not in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content", ["slow", "silent"])
def test_a_client_that_leaves_frees_its_slot(
    served: Served, engine: ScriptedEngine, stream: bool, content: str
) -> None:
    client = served.send_chat(stream=stream, max_tokens=2000, messages=user(content))
    wait_until(lambda: engine.active == 1)
    if stream and content == "slow":
        assert client.recv(100)
    assert served.admission.active == 1
    client.close()
    assert wait_until(lambda: engine.active == 0 and served.admission.active == 0) < 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_real_engines_slot(tiny_model: Path, stream: bool) -> None:
    async def story(engine: ProcessEngine, port: int) -> None:
        words = " ".join(f"word{number}" for number in range(60))
        body = json.dumps({"model": MODEL, "messages": user(words), "max_tokens": 100, "stream": stream}).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(chat_head(body) + body)
        async with asyncio.timeout(5):
            while engine.active != 1:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.2)
        assert engine.active == 1  # it would go on for four more seconds
        writer.close()
        async with asyncio.timeout(1):
            while engine.active:
                await asyncio.sleep(0.005)

    with_echo(tiny_model, {"delay_ms_per_token": 40}, story)


def test_a_client_that_stays_keeps_its_slot_until_the_end(served: Served, engine: ScriptedEngine) -> None:
    client = served.send_chat(max_tokens=30)
    wait_until(lambda: engine.active == 1)
    assert b" 200 OK" in client.recv(65536)
    client.close()
    assert engine.active == 0


def test_a_full_queue_is_503_with_retry_after(served: Served, engine: ScriptedEngine) -> None:
    clients = [served.send_chat(max_tokens=2000) for _ in range(8)]
    wait_until(lambda: engine.active == 8)
    status, answer, headers = served.chat()
    assert (status, answer["error"]["code"]) == (503, "overloaded")
    assert int(headers["retry-after"]) >= 1
    clients.pop().close()
    wait_until(lambda: served.admission.active == 7)
    assert served.chat(n=2)[0] == 503
    assert served.chat()[0] == 200
    for client in clients:
        client.close()


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    client = served.connect()
    for text in ("one", "two"):
        body = json.dumps({"model": MODEL, "messages": user(text)}).encode()
        client.sendall(chat_head(body, "Connection: close" if text == "two" else "Connection: keep-alive") + body)
    received = read_all(client)
    assert received.index(b'"one"') < received.index(b'"two"')
    client.close()
