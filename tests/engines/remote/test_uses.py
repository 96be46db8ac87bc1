"""A provider as a candidate and as a judge."""

import asyncio
from pathlib import Path

import pytest

from tests.engines.asking import until
from tests.engines.remote import provider as acts
from tests.engines.remote.asking import settings
from tests.engines.remote.provider import Exchange, chunk, sse
from tests.evaluate.fakes import SETTINGS, example, workspace
from vivace.chain import stack
from vivace.domain import Message, SilentProgress
from vivace.engines.remote import open_remote, provider_candidate, retries
from vivace.errors import EngineDied
from vivace.evaluate.answering import answer_examples, finished_groups, group_key, grouped
from vivace.evaluate.judge.asking import Question, ask_all


async def repeats(exchange: Exchange) -> None:
    """Answer with the question."""
    text = exchange.seen.body["messages"][-1]["content"]
    events = [sse(chunk({"content": text})), sse(chunk({}, "stop")), sse(chunk(None, usage=acts.USAGE))]
    await acts.streams([*events, b"data: [DONE]\n\n"])(exchange)


def test_an_outage_stops_an_evaluation_which_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.001)
    examples = [example(number) for number in range(12)]

    async def evaluated(server: acts.Provider) -> int:
        candidate = provider_candidate("gpt", settings(base_url=server.url), tmp_path / "gpt")
        groups = [(group_key(candidate, group, SETTINGS), group) for group in grouped(examples, 4)]
        journal = workspace(tmp_path / "work").scratch / "groups.jsonl"
        known = finished_groups(journal)
        left = [each for each in groups if each[0] not in known]
        async with open_remote(candidate.engine, candidate.model) as engine:
            await answer_examples(
                engine, lambda inner: stack(inner, candidate.chain), left, SETTINGS, journal, SilentProgress()
            )
        answers = [each for group in finished_groups(journal).values() for each in group]
        assert len(answers) == 12
        assert all(each.answer == each.prompt[-1].content and not each.failed for each in answers)
        assert answers[0].completion_tokens == 4
        return len(left)

    async def story() -> None:
        async with acts.provider(*[repeats] * 5, acts.drops) as server:
            with pytest.raises(EngineDied, match="Run the same command again"):
                await evaluated(server)
            server.script[:] = [repeats]
            assert await evaluated(server) == 2  # the group that was whole is not paid for again

    asyncio.run(story())


def test_one_answer_that_breaks_off_does_not_stop_the_others(tmp_path: Path) -> None:
    examples = [example(number) for number in range(4)]

    async def breaks_off(exchange: Exchange) -> None:
        if "question 2" not in exchange.seen.body["messages"][-1]["content"]:
            await repeats(exchange)
            return
        await exchange.begin()
        await exchange.event(chunk({"content": "Half an"}))
        await until(lambda: exchange.provider.at_once == 1)
        await asyncio.sleep(0.1)
        exchange.drop()

    async def story() -> list[bool]:
        async with acts.provider(breaks_off) as server:
            candidate = provider_candidate("gpt", settings(base_url=server.url), tmp_path / "gpt")
            async with open_remote(candidate.engine, candidate.model) as engine:
                found = await answer_examples(
                    engine,
                    lambda inner: stack(inner, {}),
                    [("key", examples)],
                    SETTINGS,
                    tmp_path / "groups.jsonl",
                    SilentProgress(),
                )
        return [each.failed for each in found["key"]]

    assert asyncio.run(story()) == [False, False, True, False]


def test_a_provider_judges_in_words(tmp_path: Path) -> None:
    async def says_b(exchange: Exchange) -> None:
        assert exchange.seen.body["temperature"] == 0
        await acts.streams(acts.openai_events(("B",)))(exchange)

    async def story() -> str | None:
        async with acts.provider(says_b) as server:
            candidate = provider_candidate("judge", settings(base_url=server.url), tmp_path / "judge")
            question = Question("q", (Message("user", "Which is better, A or B?"),), ("A", "B"))
            async with open_remote(candidate.engine, candidate.model) as engine:
                told = await ask_all(engine, [question], tmp_path / "j.jsonl", SilentProgress(), identity="judge")
            return told["q"].option

    assert asyncio.run(story()) == "B"
