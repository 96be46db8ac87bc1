"""Lengths by estimate: rather too long than too short."""

from pathlib import Path

import pytest

from tests.engines.asking import collect
from tests.engines.remote import provider as acts
from tests.engines.remote.asking import request, story
from tests.engines.remote.provider import Provider
from vivace.chain import stack
from vivace.domain import Message
from vivace.engines.remote import RemoteEngine
from vivace.engines.remote.tokens import EstimatingTokenizer, estimated_tokens
from vivace.errors import EngineError, RequestError
from vivace.models import ChatTokenizer

TEXTS = (
    "Good morning! How can I reset the password of my account?",
    "Order 4711-0815 of 2026-11-22 costs $1,234.50 (incl. VAT).",
    "def add(a, b):\n    return a + b\n",
    "Grüße aus München, schöne Straße!",
    "Доброе утро, как сбросить пароль?",
    "おはようございます。パスワードを再設定するには？",
    "早上好，如何重置密码？",
    "😀🎉👩‍👩‍👧",
    "https://example.org/a?b=c&d=e#f",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "      indented\n\n\n\n\tand tabbed",
)


@pytest.mark.real
@pytest.mark.parametrize("text", TEXTS)
def test_an_estimate_is_no_shorter_than_what_a_small_vocabulary_makes_of_it(text: str, real_model: Path) -> None:
    tokenizer = ChatTokenizer.open(real_model)
    exact = len(tokenizer.encode(text))
    assert exact <= estimated_tokens(text) <= 3 * exact + 3
    turns = (Message("system", "Be brief."), Message("user", text))
    assert len(tokenizer.encode_chat(turns)) <= len(EstimatingTokenizer(100).encode_chat(turns))


def test_tools_and_calls_count() -> None:
    tokenizer = EstimatingTokenizer(100)
    turns = (Message("user", "Find it."),)
    tool = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
    assert len(tokenizer.encode_chat(turns, tools=(tool,))) > len(tokenizer.encode_chat(turns)) > 0


def test_ids_that_mean_nothing_cannot_be_turned_into_text() -> None:
    with pytest.raises(EngineError, match="not known here"):
        EstimatingTokenizer(100).decode((0, 0))


def test_a_conversation_that_is_too_long_is_trimmed_before_it_is_sent(tmp_path: Path) -> None:
    turns = [Message("user" if number % 2 == 0 else "assistant", f"Turn {number}. " * 20) for number in range(41)]

    async def tell(engine: RemoteEngine, server: Provider) -> int:
        await collect(stack(engine, {}), request(*turns, max_tokens=100))
        with pytest.raises(RequestError):
            await collect(stack(engine, {}), request(Message("user", "word " * 5000), max_tokens=100))
        return len(server.seen[0].body["messages"])

    sent = story(tmp_path, [acts.fine], tell, context_length=1000)
    assert 1 <= sent < 41
    assert story(tmp_path, [acts.fine], tell_all, context_length=100_000) == 41


async def tell_all(engine: RemoteEngine, server: Provider) -> int:
    turns = [Message("user" if number % 2 == 0 else "assistant", f"Turn {number}. " * 20) for number in range(41)]
    await collect(stack(engine, {}), request(*turns, max_tokens=100))
    return len(server.seen[0].body["messages"])
