"""A provider that hangs, breaks off, lies or floods is told as a sentence, in time; each beside one that behaves."""

import asyncio
import gc
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from tests.engines.asking import collect, outcome, until
from tests.engines.remote import provider as acts
from tests.engines.remote.asking import request, settings, story
from tests.engines.remote.provider import ANSWER, Act, Exchange, Provider, chunk, openai_events, sse, streams
from vivace.engines.remote import RemoteEngine, wire
from vivace.errors import EngineError, ProviderUnavailable, RequestError

SHORT = 0.15


async def ask(engine: RemoteEngine, server: Provider) -> tuple[str, float]:
    """Return the answer or the error as text, and how long it took."""
    clock = asyncio.get_running_loop().time
    started = clock()
    try:
        told = "".join(each.text for each in await collect(engine, request()))
    except EngineError as error:
        told = f"{type(error).__name__}: {error}"
    return told, clock() - started


@pytest.mark.parametrize(
    ("act", "key", "words"),
    [
        (acts.hangs, "first_token_s", "began no answer within 0.15 s"),
        (acts.hangs_after_headers, "first_token_s", "began no answer within 0.15 s"),
        (acts.keeps_alive, "first_token_s", "began no answer within 0.15 s"),
        (streams(openai_events()[:1], then="hang"), "first_token_s", "began no answer within 0.15 s"),
        (streams(openai_events()[:3], then="hang"), "between_tokens_s", "went silent in the middle"),
        (acts.hangs, "total_s", "did not finish its answer within 0.15 s"),
        (streams(openai_events()[:3], then="hang"), "total_s", "did not finish its answer within 0.15 s"),
    ],
)
def test_each_phase_has_its_deadline(tmp_path: Path, act: Act, key: str, words: str) -> None:
    told, seconds = story(tmp_path, [act], ask, timeouts={key: SHORT}, max_retries=0)
    assert words in told
    assert key in told
    assert SHORT <= seconds < 4.5


def test_a_slow_answer_within_the_deadlines_is_an_answer(tmp_path: Path) -> None:
    # In all longer than the silence that is allowed: each token begins it anew.
    slow = streams(openai_events(), pause_s=0.1)
    told, seconds = story(tmp_path, [slow], ask, timeouts={"between_tokens_s": 0.6, "first_token_s": 2.0})
    assert told == ANSWER
    assert seconds > 0.6


def test_signs_of_life_after_a_thought_are_no_tokens(tmp_path: Path) -> None:
    async def thinks_and_keeps_alive(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.event(chunk({"reasoning_content": "Hm."}))
        while True:
            await exchange.piece(b": keep-alive\n\n")
            await asyncio.sleep(0.01)

    told, seconds = story(tmp_path, [thinks_and_keeps_alive], ask, timeouts={"between_tokens_s": SHORT}, max_retries=0)
    assert "went silent in the middle" in told
    assert seconds < 4.5


def test_who_takes_long_over_a_chunk_is_not_taken_for_a_slow_provider(tmp_path: Path) -> None:
    async def dawdle(engine: RemoteEngine, server: Provider) -> str:
        text = ""
        async with aclosing(engine(request())) as chunks:
            async for each in chunks:
                text += each.text
                await asyncio.sleep(0.6)
        return text

    two = streams(openai_events(("Good", " morning")), pause_s=0.01)
    assert story(tmp_path, [two], dawdle, timeouts={"between_tokens_s": 0.5}) == "Good morning"


BROKEN: dict[str, tuple[Act, str]] = {
    "closed before the headers": (acts.drops, "closed the connection before it had answered"),
    "closed in the middle": (streams(openai_events()[:3], then="drop"), "broke off its answer"),
    "ended in the middle": (streams(openai_events()[:3]), "did not say that it was complete"),
    "ended in the middle and called done": (
        streams([*openai_events()[:3], b"data: [DONE]\n\n"]),
        "did not say that it was complete",
    ),
    "ended within an event": (streams([*openai_events()[:2], b'data: {"choices": [{"de']), "middle of an event"),
    "no event": (streams([b": hello\n\n"]), "did not say that it was complete"),
    "events that are not JSON": (streams([b"data: hello\n\n"]), "not JSON"),
    "events that are not UTF-8": (streams([b'data: {"a": "\xff"}\n\n']), "not UTF-8"),
    "a body that is shorter than said": (acts.lies_about_its_length, "broke off its answer"),
    "a body that is not JSON": (acts.answers(b'{"choices": ['), "not JSON"),
    "JSON that is no answer": (acts.answers({"status": "ok"}), "JSON that is no answer"),
    "a web page": (acts.answers(b"<!doctype html><title>Hi</title>", kind="text/html"), "a web page instead of JSON"),
    "no HTTP": (acts.speaks_no_http, "not HTTP"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_an_error_and_never_a_short_answer(tmp_path: Path, case: str) -> None:
    act, words = BROKEN[case]
    told, seconds = story(tmp_path, [act], ask, max_retries=0)
    assert words in told
    assert "The provider gpt" in told
    assert seconds < 4.5


FINE: dict[str, Act] = {
    "no [DONE]": streams(openai_events()[:-1]),
    "no empty line at the end": streams([*openai_events()[:-1], b"data: [DONE]"]),
    "CR LF": streams([each.replace(b"\n", b"\r\n") for each in openai_events()]),
    "CR LF, cut anywhere": streams([each.replace(b"\n", b"\r\n") for each in openai_events()], cut=5),
    "a byte order mark": streams([b"\xef\xbb\xbf", *openai_events()]),
    "comments": streams([part for each in openai_events() for part in (b": keep-alive\n\n", each)]),
    "fields beside the data": streams([b"id: 1\nretry: 10\nevent: x\n" + each for each in openai_events()]),
    "no space after the colon": streams([each.replace(b"data: ", b"data:") for each in openai_events()]),
    "gzip": acts.squeezes,
    "another content type": acts.answers(b"".join(openai_events()), kind="text/plain"),
    "JSON of another content type": acts.answers(acts.completion(), kind="text/plain"),
    "open after its end": streams(openai_events(), then="hang"),
}


@pytest.mark.parametrize("case", FINE)
def test_what_is_merely_unusual_is_read(tmp_path: Path, case: str) -> None:
    told, seconds = story(tmp_path, [FINE[case]], ask, max_retries=0)
    assert told == ANSWER
    assert seconds < 4.5


def test_a_flood_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_ANSWER_BYTES", 300_000)
    told, _ = story(tmp_path, [acts.floods], ask)
    assert "sent more than 300,000 bytes" in told
    long = streams(openai_events(("word " * 1000,) * 20))
    assert len(story(tmp_path, [long], ask)[0]) == 100_000


def test_an_event_without_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivace.engines.remote.stream.MAX_EVENT_BYTES", 20_000)
    told, _ = story(tmp_path, [streams([b'data: {"a": "' + b"x" * 30_000])], ask)
    assert "an event of more than 20,000 bytes" in told


@pytest.mark.parametrize("how", ["closes", "is cancelled", "stops reading"])
def test_a_caller_that_leaves_frees_connection_and_slot_at_once(tmp_path: Path, how: str) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> None:
        clock = asyncio.get_running_loop().time
        if how == "is cancelled":
            task = asyncio.create_task(collect(engine, request()))
            await until(lambda: len(server.seen) == 1)
            await asyncio.sleep(0.05)
            gone = clock()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        else:
            chunks = engine(request())
            await anext(chunks)
            gone = clock()
            if how == "closes":
                await chunks.aclose()
            else:
                del chunks
                gc.collect()
        await until(lambda: bool(server.left), 2)
        assert server.left[0] - gone < 1
        assert engine.active == 0
        assert (await ask(engine, server))[0] == ANSWER  # with one slot, the next one would wait for ever

    story(tmp_path, [streams(openai_events()[:3], then="hang"), acts.fine], tell, max_concurrent=1)


def test_who_stops_at_the_last_chunk_has_given_the_slot_back(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> None:
        chunks = engine(request())
        async for each in chunks:
            if each.finish_reason:
                assert engine.active == 0
                assert (await ask(engine, server))[0] == ANSWER
        await chunks.aclose()

    story(tmp_path, [acts.fine], tell, max_concurrent=1)


def test_connections_are_used_again(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> tuple[int, int]:
        for _ in range(5):
            assert (await ask(engine, server))[0] == ANSWER
        return len(server.seen), server.connections

    assert story(tmp_path, [acts.fine], tell) == (5, 1)


def test_a_connection_that_was_closed_while_it_waited_is_nobodys_failure(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> tuple[int, int]:
        for _ in range(2):
            assert (await ask(engine, server))[0] == ANSWER
        return engine.facts["attempts"], server.connections

    # The second request comes over the first one's connection, which closes; on a fresh one that would be an error.
    assert story(tmp_path, [acts.fine, acts.drops, acts.fine], tell, max_retries=0) == (2, 2)


def test_so_many_are_asked_at_once_and_no_more(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> int:
        told = await asyncio.gather(*(ask(engine, server) for _ in range(7)))
        assert [text for text, _ in told] == [ANSWER] * 7
        return server.most_at_once

    assert story(tmp_path, [streams(openai_events(), pause_s=0.01)], tell, max_concurrent=3) == 3


def test_redirects_are_not_followed(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> tuple[BaseException, int]:
        return await outcome(collect(engine, request())), len(server.seen)

    away = acts.answers(b"", 307, location="https://elsewhere.example/v1/chat/completions?token=abc")
    error, asked = story(tmp_path, [away, acts.fine], tell)
    assert isinstance(error, ProviderUnavailable)
    assert "elsewhere.example" in str(error)
    assert "token=abc" not in str(error)
    assert asked == 1


def test_a_wrong_request_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> int:
        for wrong in ({"max_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"ignore_eos": True}):
            assert isinstance(await outcome(collect(engine, request(**wrong))), RequestError)
        half = request()
        half = type(half)(half.id, (type(half.messages[0])("user", "\ud83d"),))
        assert isinstance(await outcome(collect(engine, half)), RequestError)
        asked = len(server.seen)
        assert (await ask(engine, server))[0] == ANSWER
        return asked

    assert story(tmp_path, [acts.fine], tell) == 0


def test_nobody_at_the_address_is_one_sentence(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> str:
        return (await ask(engine, server))[0]

    told = story(tmp_path, [acts.fine], tell, base_url="http://127.0.0.1:9/v1", max_retries=0)
    assert "cannot be reached at 127.0.0.1:9" in told
    assert "base_url" in told


def test_a_connection_that_is_not_accepted_has_a_deadline(tmp_path: Path) -> None:
    import socket

    with socket.socket() as full:  # a queue of one that is full: the kernel drops further handshakes
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        try:
            url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
            told, seconds = story(tmp_path, [acts.fine], ask, base_url=url, timeouts={"connect_s": 0.3}, max_retries=0)
        finally:
            for other in others:
                other.close()
    assert "accepted no connection within 0.3 s" in told
    assert "connect_s" in told
    assert seconds < 4.5


def test_the_environments_proxy_is_asked_for_other_hosts_and_not_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> Any:
        async with acts.provider(acts.fine) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url.replace("127.0.0.1", "ann:pass@127.0.0.1"))
            monkeypatch.setenv("no_proxy", "")
            from tests.engines.remote.asking import opened

            far = settings(base_url="http://model.example/v1", max_retries=0)
            async with opened(tmp_path, far) as engine:
                assert "".join(each.text for each in await collect(engine, request())) == ANSWER
            near = settings(base_url="http://127.0.0.1:9/v1", max_retries=0)
            async with opened(tmp_path, near, "near") as engine:
                assert isinstance(await outcome(collect(engine, request())), ProviderUnavailable)
            return proxy.seen

    (seen,) = asyncio.run(run())
    assert seen.path == "http://model.example/v1/chat/completions"
    assert seen.headers["proxy-authorization"].startswith("Basic ")


def test_a_hanging_error_body_does_not_hold_the_sentence_up(tmp_path: Path) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.head(400, "application/json", Content_Length="100")
        await exchange.hang()

    told, seconds = story(tmp_path, [refuses], ask, timeouts={"first_token_s": SHORT}, max_retries=0)
    assert "began no answer" in told
    assert seconds < 4.5


def test_an_empty_answer_is_an_answer(tmp_path: Path) -> None:
    assert story(tmp_path, [streams([sse(chunk({}, "stop"))])], ask)[0] == ""


def test_the_http_library_is_imported_when_a_provider_is_opened_and_not_before() -> None:
    code = "import sys, vivace.engines.remote; sys.exit('aiohttp' in sys.modules or 'yarl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
