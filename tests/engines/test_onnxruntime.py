"""The ONNX Runtime engine tells likelihoods that belong to its own answers."""

import math

import pytest

from tests.engines.asking import ids_of, request, with_engine
from vivace.domain import Model
from vivace.engines import ProcessEngine


@pytest.mark.slow
def test_its_own_greedy_answer_is_the_likeliest_at_each_step(tiny_onnx: Model) -> None:
    async def story(engine: ProcessEngine) -> None:
        prompt = engine.tokenizer.encode_chat(request("What time is breakfast?").messages)
        answer = await ids_of(engine, "What time is breakfast?", max_tokens=6)
        chosen = await engine.token_logprobs(prompt, tuple(answer))
        for place, token in enumerate(answer):
            head = tuple(answer[:place])
            every = [
                (await engine.token_logprobs(prompt, (*head, other)))[-1]
                for other in range(engine.tokenizer.vocab_size)
            ]
            assert every[token] == pytest.approx(max(every), abs=1e-5)
            assert every[token] == pytest.approx(chosen[place], abs=1e-3)
            assert math.fsum(math.exp(value) for value in every) == pytest.approx(1.0, abs=1e-3)

    with_engine("onnxruntime", tiny_onnx, story, threads=1)
