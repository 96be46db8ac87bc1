"""The stack is the same everywhere: system prompt first, oldest turns dropped, generators closed."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.chain import LAYERS, answer, stack
from vivace.chain.trim import fit
from vivace.domain import Chunk, Message, Request, Sampling, Usage
from vivace.engines.tokens import ByteTokenizer
from vivace.errors import ConfigError, RequestError


class Listener:
    """An engine that keeps what it was asked and says whether its generator was closed."""

    def __init__(self, context_length: int = 1000) -> None:
        self.tokenizer = ByteTokenizer()
        self.context_length = context_length
        self.asked: list[Request] = []
        self.closed = 0

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request)
        try:
            for word in ("one ", "two ", "three"):
                yield Chunk(word, (1,))
            yield Chunk(finish_reason="stop", usage=Usage(5, 3))
        finally:
            self.closed += 1


def ask(*turns: str, max_tokens: int = 10) -> Request:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    messages = tuple(Message(roles[turn[0]], turn[2:]) for turn in turns)  # type: ignore[arg-type]
    return Request("r", messages, sampling=Sampling(max_tokens=max_tokens))


def texts(request: Request) -> list[str]:
    return [message.content for message in request.messages]


def test_the_system_prompt_comes_first_unless_the_conversation_has_its_own() -> None:
    engine = Listener()
    responder = stack(engine, {"system": "Be kind."})  # type: ignore[arg-type]
    asyncio.run(answer(responder, ask("u:Hi")))
    asyncio.run(answer(responder, ask("s:Be brief.", "u:Hi")))
    assert [texts(request) for request in engine.asked] == [["Be kind.", "Hi"], ["Be brief.", "Hi"]]


def test_an_empty_recipe_passes_the_conversation_on_as_it_is() -> None:
    engine = Listener()
    request = ask("u:Hi", "a:Hello", "u:Bye")
    asyncio.run(answer(stack(engine, {}), request))  # type: ignore[arg-type]
    assert engine.asked[0].messages == request.messages


def test_a_layer_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no layer 'sistem'.*'system'"):
        stack(Listener(), {"sistem": "x"})  # type: ignore[arg-type]


def test_who_stops_reading_closes_the_engine_through_all_layers() -> None:
    engine = Listener()

    async def leave_early() -> None:
        async with aclosing(stack(engine, dict.fromkeys(LAYERS, None) | {"system": "s"})(ask("u:Hi"))) as chunks:  # type: ignore[arg-type]
            async for _chunk in chunks:
                break

    asyncio.run(leave_early())
    assert engine.closed == 1


def test_the_oldest_exchange_is_dropped_first_and_the_system_prompt_stays() -> None:
    engine = Listener(context_length=120)
    request = ask("u:" + "a" * 60, "a:" + "b" * 30, "u:second", "a:fine", "u:third")
    asyncio.run(answer(stack(engine, {"system": "Sys"}), request))  # type: ignore[arg-type]
    assert texts(engine.asked[0]) == ["Sys", "second", "fine", "third"]


def test_a_last_turn_that_cannot_fit_is_refused_as_openai_does() -> None:
    with pytest.raises(RequestError, match="tokens even without its older turns") as caught:
        asyncio.run(answer(stack(Listener(50), {}), ask("u:" + "x" * 200)))  # type: ignore[arg-type]
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=9),
    room=st.integers(1, 400),
    with_system=st.booleans(),
)
def test_what_is_kept_fits_ends_with_the_last_turn_and_starts_with_a_question(
    lengths: list[int], room: int, with_system: bool
) -> None:
    turns = [f"{'ua'[place % 2]}:{'x' * length}" for place, length in enumerate(lengths)]
    request = ask(*(["s:sys"] if with_system else []), *turns)
    tokenizer = ByteTokenizer()
    try:
        kept = fit(tokenizer, request, room)
    except RequestError:
        last_user = max(place for place, message in enumerate(request.messages) if message.role == "user")
        needed = (*request.messages[:with_system], *request.messages[last_user:])
        assert len(tokenizer.encode_chat(needed)) > room
        return
    assert len(tokenizer.encode_chat(kept)) <= room
    assert kept[-1] == request.messages[-1]
    assert kept[: int(with_system)] == request.messages[: int(with_system)]
    assert kept[int(with_system)].role == "user"
    if len(tokenizer.encode_chat(request.messages)) <= room:
        assert kept == request.messages


def test_a_trace_holds_the_whole_answer_and_its_times() -> None:
    ticks = iter([10.0, 11.0, 13.0])
    trace = asyncio.run(answer(Listener(), ask("u:Hi"), lambda: next(ticks), intended_at=9.0))  # type: ignore[arg-type]
    assert trace.answer == Message("assistant", "one two three")
    assert (trace.finish_reason, trace.usage) == ("stop", Usage(5, 3))
    assert (trace.ttft_ms, trace.e2e_ms, trace.tpot_ms) == (2000.0, 4000.0, 1000.0)
