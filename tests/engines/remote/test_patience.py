"""Retries, their budget, and the breaker: who asks again, when, and who is left alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines.asking import collect, outcome
from tests.engines.remote import provider as acts
from tests.engines.remote.asking import request, story
from tests.engines.remote.provider import ANSWER, Provider, openai_events, streams
from vivace.engines.remote import RemoteEngine, engine, retries
from vivace.engines.remote.breaker import Breaker
from vivace.engines.remote.failures import Failed
from vivace.engines.remote.retries import RetryBudget, may_pass, pause_s, retry_after_s
from vivace.errors import EngineDied, EngineError, ProviderUnavailable

BUSY = {"error": {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.001)


async def ask(engine: RemoteEngine, server: Provider) -> tuple[Any, int]:
    """Return the answer or the error, and how often the provider was asked."""
    try:
        told: Any = "".join(each.text for each in await collect(engine, request()))
    except EngineError as error:
        told = error
    return told, len(server.seen)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_what_may_pass_is_asked_again(tmp_path: Path, status: int) -> None:
    refuses = acts.answers(BUSY, status)
    assert story(tmp_path, [refuses, refuses, acts.fine], ask) == (ANSWER, 3)


@pytest.mark.parametrize("act", [acts.drops, acts.lies_about_its_length, streams(openai_events()[:1]), acts.hangs])
def test_what_broke_off_before_the_first_token_is_asked_again(tmp_path: Path, act: acts.Act) -> None:
    told = story(tmp_path, [act, acts.fine], ask, timeouts={"first_token_s": 0.5})
    assert told == (ANSWER, 2)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 501])
def test_what_will_not_pass_is_asked_once(tmp_path: Path, status: int) -> None:
    async def count(engine: RemoteEngine, server: Provider) -> int:
        await outcome(collect(engine, request()))
        return len(server.seen)

    assert story(tmp_path, [acts.answers({"error": {"message": "no"}}, status), acts.fine], count) == 1


def test_an_account_without_credit_is_not_asked_again(tmp_path: Path) -> None:
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    error, asked = story(tmp_path, [acts.answers(body, 429), acts.fine], ask)
    assert asked == 1
    assert "no credit left" in str(error)


def test_nothing_is_asked_again_once_a_token_was_given_on(tmp_path: Path) -> None:
    error, asked = story(tmp_path, [streams(openai_events()[:3], then="drop"), acts.fine], ask)
    assert asked == 1
    # This answer is lost; the provider is not: that would be ProviderUnavailable.
    assert isinstance(error, EngineError)
    assert not isinstance(error, EngineDied)


def test_after_the_last_attempt_the_error_says_how_many_there_were(tmp_path: Path) -> None:
    error, asked = story(tmp_path, [acts.answers(BUSY, 429)], ask, max_retries=2)
    assert asked == 3
    assert isinstance(error, ProviderUnavailable)
    assert "HTTP 429" in str(error)
    assert "Rate limit reached" in str(error)
    assert "asked 3 times" in str(error)


def test_the_server_says_when_it_wants_to_be_asked_again(tmp_path: Path) -> None:
    async def tell(engine: RemoteEngine, server: Provider) -> float:
        assert (await ask(engine, server))[0] == ANSWER
        return server.seen[1].at - server.seen[0].at

    for header in ({"retry_after": "0.3"}, {"retry_after_ms": "300"}):
        waited = story(tmp_path, [acts.answers(BUSY, 429, **header), acts.fine], tell)
        assert 0.3 <= waited < 3
    assert story(tmp_path, [acts.answers(BUSY, 429), acts.fine], tell) < 0.3


def test_a_server_that_wants_too_much_patience_is_given_up_at_once(tmp_path: Path) -> None:
    for seconds, words in (("86400", "86400 s of patience"), ("30", "No more time is left of 10 s")):
        error, asked = story(tmp_path, [acts.answers(BUSY, 429, retry_after=seconds)], ask)
        assert asked == 1
        assert words in str(error)
        assert error.retry_after_s == float(seconds)


def test_a_server_that_says_whether_to_ask_again_is_believed() -> None:
    assert may_pass(503, {})
    assert not may_pass(400, {})
    assert not may_pass(503, {"x-should-retry": "false"})
    assert may_pass(400, {"x-should-retry": "true"})


def test_dates_seconds_and_nonsense_in_retry_after() -> None:
    now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    def read(value: str) -> float | None:
        return retry_after_s({"retry-after": value}, lambda: now)

    assert read("7") == 7
    assert read(format_datetime(now + timedelta(seconds=90), usegmt=True)) == 90
    assert read(format_datetime(now - timedelta(seconds=90), usegmt=True)) == 0
    assert read("-5") == 0
    for nonsense in ("", "soon", "nan", "inf", "Sun, 99 Foo 2026"):
        assert read(nonsense) is None
    assert retry_after_s({}) is None


@given(attempt=st.integers(0, 60), draw=st.floats(0, 1), after_s=st.none() | st.floats(0, 1000))
def test_pauses_are_jittered_bounded_and_never_shorter_than_asked(
    attempt: int, draw: float, after_s: float | None
) -> None:
    pause = pause_s(attempt, after_s, lambda: draw)
    if after_s is None:
        assert 0 <= pause <= retries.LONGEST_PAUSE_S
        assert pause_s(attempt, None, lambda: 0.0) == 0  # full jitter begins at nothing
    else:
        assert after_s <= pause <= after_s + 0.1 * retries.LONGEST_PAUSE_S


def test_retries_do_not_multiply_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Breaker", lambda name: Breaker(name, failures=10_000))

    async def tell(engine: RemoteEngine, server: Provider) -> tuple[int, list[Any]]:
        told = [(await ask(engine, server))[0] for _ in range(50)]
        return len(server.seen), told

    # 10 in reserve, one for each 5 requests: 50 requests are 70 attempts, not 250.
    asked, told = story(tmp_path, [acts.answers(BUSY, 503)], tell)
    assert 65 <= asked <= 71
    assert "not asked again" in str(told[-1])
    budget = RetryBudget()
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker() -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker("gpt", failures=3, cool_down_s=5.0, clock=clock), clock


def fail(gate: Breaker, outcome: Any = "down") -> None:
    with pytest.raises(Failed), gate.attempt():
        raise Failed(EngineError("It is in trouble."), outcome=outcome)


def succeed(gate: Breaker) -> None:
    with gate.attempt():
        pass


def test_the_breaker_opens_after_failures_in_a_row_and_only_then() -> None:
    gate, _ = breaker()
    for _ in range(5):  # never three in a row
        fail(gate)
        fail(gate)
        succeed(gate)
    assert gate.state == "closed"
    for _ in range(3):
        fail(gate)
    assert gate.state == "open"
    with pytest.raises(ProviderUnavailable, match=r"gpt failed 3 times in a row .* 5\.0 s.*It is in trouble"):
        succeed(gate)


def test_what_is_not_the_providers_fault_opens_nothing() -> None:
    gate, _ = breaker()
    for _ in range(10):
        fail(gate, "up")
        fail(gate, "unknown")
        with pytest.raises(asyncio.CancelledError), gate.attempt():
            raise asyncio.CancelledError
    assert gate.state == "closed"


def test_after_a_pause_one_attempt_passes_and_decides() -> None:
    gate, clock = breaker()
    for _ in range(3):
        fail(gate)
    clock.now += 5.1
    assert gate.state == "half-open"
    with gate.attempt(), pytest.raises(ProviderUnavailable):
        succeed(gate)  # one at a time
    assert gate.state == "closed"
    for _ in range(3):
        fail(gate)
    clock.now += 5.1
    fail(gate)
    assert gate.state == "open"
    clock.now += 5.1
    assert gate.state == "open"  # the second pause is twice as long
    clock.now += 5.0
    succeed(gate)
    assert gate.state == "closed"


def test_a_caller_that_leaves_the_probe_does_not_jam_the_breaker() -> None:
    gate, clock = breaker()
    for _ in range(3):
        fail(gate)
    clock.now += 5.1
    with pytest.raises(asyncio.CancelledError), gate.attempt():
        raise asyncio.CancelledError
    succeed(gate)
    assert gate.state == "closed"


def test_old_news_neither_opens_nor_closes() -> None:
    gate, clock = breaker()
    with gate.attempt():  # begun while all was well, ends well after the breaker opened
        for _ in range(3):
            fail(gate)
    assert gate.state == "open"
    clock.now += 5.1
    with pytest.raises(Failed):
        _break_off_after_a_token(gate)
    assert gate.state == "closed"  # one failure


def _break_off_after_a_token(gate: Breaker) -> None:
    with gate.attempt() as probe:
        probe.alive()
        assert gate.state == "closed"
        raise Failed(EngineError("It broke off."), outcome="down")


def test_a_provider_that_is_down_is_left_alone_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Breaker", lambda name: Breaker(name, failures=3, cool_down_s=0.3))

    async def tell(engine: RemoteEngine, server: Provider) -> None:
        for _ in range(3):
            await ask(engine, server)
        assert not engine.alive
        error, asked = await ask(engine, server)
        assert asked == 3  # it was not asked
        assert isinstance(error, ProviderUnavailable)
        assert "is not asked for another" in str(error)
        await asyncio.sleep(0.35)
        assert await ask(engine, server) == (ANSWER, 4)
        assert engine.alive

    story(tmp_path, [acts.drops] * 3 + [acts.fine], tell, max_retries=0)


def test_answers_in_work_are_not_disturbed_when_the_breaker_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "Breaker", lambda name: Breaker(name, failures=2))

    async def tell(engine: RemoteEngine, server: Provider) -> None:
        slow = asyncio.create_task(ask(engine, server))
        while not server.seen:
            await asyncio.sleep(0.01)
        for _ in range(2):
            await ask(engine, server)
        assert not engine.alive
        assert (await slow)[0] == ANSWER

    story(tmp_path, [streams(openai_events(), pause_s=0.1), acts.drops], tell, max_retries=0)
