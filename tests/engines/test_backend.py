"""Every engine that runs a model keeps the same promises."""

import asyncio
from contextlib import aclosing

import pytest

from tests.engines.asking import ask, collect, ids_of, outcome, request, until, with_engine
from vivace.domain import Likelihood, Model
from vivace.engines import ProcessEngine, default_engine
from vivace.engines.backend import one_sentence
from vivace.errors import RequestError

PROMPTS = [f"How do I reset password number {number}? {'Please! ' * number}" for number in range(8)]


@pytest.mark.slow
def test_an_engine_keeps_its_promises(any_model: Model) -> None:
    # One story, because opening an engine costs more than all of it.
    async def story(engine: ProcessEngine) -> None:
        assert isinstance(engine, Likelihood)
        await _together_is_as_alone(engine)
        await _limits_are_kept(engine)
        await _leaving_frees_the_slot(engine)
        await _sampling_follows_its_seed(engine)
        assert engine.load_s > 0
        assert engine.peak_memory_bytes() > 50_000_000
        assert engine.active == 0

    with_engine(default_engine(any_model.format), any_model, story, threads=1)


async def _together_is_as_alone(engine: ProcessEngine) -> None:
    options = {"max_tokens": 12, "ignore_eos": True}
    alone = [await ids_of(engine, prompt, **options) for prompt in PROMPTS]
    together = await asyncio.gather(*(ids_of(engine, prompt, **options) for prompt in PROMPTS))
    assert together == alone
    assert {len(ids) for ids in together} == {12}
    assert len({tuple(ids) for ids in together}) > 4


async def _limits_are_kept(engine: ProcessEngine) -> None:
    for limit in (1, 5):
        chunks = await collect(engine, request(PROMPTS[0], max_tokens=limit, ignore_eos=True))
        assert chunks[-1].finish_reason == "length"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == sum(len(chunk.token_ids) for chunk in chunks) == limit
        assert chunks[-1].usage.prompt_tokens == len(engine.tokenizer.encode_chat(request(PROMPTS[0]).messages))
    assert isinstance(await outcome(ask(engine, "too long " * 2000)), RequestError)


async def _leaving_frees_the_slot(engine: ProcessEngine) -> None:
    async with aclosing(engine(request(PROMPTS[1], max_tokens=900, ignore_eos=True))) as chunks:
        await anext(chunks)
    assert engine.active == 0
    async with asyncio.timeout(5):
        assert (await ask(engine, PROMPTS[2], max_tokens=2, ignore_eos=True))[1].usage is not None
    waiting = asyncio.create_task(ask(engine, PROMPTS[3], max_tokens=900, ignore_eos=True))
    await until(lambda: engine.active == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert engine.active == 0


async def _sampling_follows_its_seed(engine: ProcessEngine) -> None:
    options = {"max_tokens": 16, "temperature": 1.5, "top_p": 0.95, "ignore_eos": True}
    first, again, other = [await ids_of(engine, PROMPTS[0], seed=seed, **options) for seed in (1, 1, 2)]
    assert first == again
    assert first != other


@pytest.mark.slow
def test_the_end_of_turn_token_ends_an_answer_and_is_not_told(any_model: Model) -> None:
    # The tiny model says whatever it says: call the token it would say fourth the end of its turn.
    async def find(engine: ProcessEngine) -> list[int]:
        return await ids_of(engine, PROMPTS[0], max_tokens=8, ignore_eos=True)

    name = default_engine(any_model.format)
    ids = with_engine(name, any_model, find, threads=1)
    place = next(place for place in range(1, 8) if ids[place] not in ids[:place])

    async def story(engine: ProcessEngine) -> None:
        load = engine._load
        engine._load = type(load)(
            **{field: getattr(load, field) for field in load.__struct_fields__ if field != "eos_ids"},
            eos_ids=(ids[place],),
        )
        await engine.restart()
        chunks = await collect(engine, request(PROMPTS[0], max_tokens=8))
        assert [token for chunk in chunks for token in chunk.token_ids] == ids[:place]
        assert chunks[-1].finish_reason == "stop"
        if name != "onnxruntime":  # it masks the token instead of going on after it
            assert await ids_of(engine, PROMPTS[0], max_tokens=8, ignore_eos=True) == ids

    with_engine(name, any_model, story, threads=1)


def test_native_errors_become_one_sentence() -> None:
    error = RuntimeError(
        "Exception from src/inference/src/cpp/core.cpp:88:\nCheck 'x' failed at a.cpp:1:\nNo such file: x.xml\n"
    )
    assert one_sentence(error) == "No such file: x.xml."
    assert one_sentence(ValueError()) == "ValueError."
