"""What engines tell of a given answer: how likely each token is, and whether they would have chosen it themselves."""

import asyncio
import math
from pathlib import Path

import pytest

from tests.engines.asking import echo, ids_of, request, with_engine
from vivace.domain import GreedyLikelihood, Model
from vivace.engines import ProcessEngine, default_engine

PROMPTS = ["Hello!", "What time is breakfast served in the hotel?", "I would like to know where my order is."]
ANSWERS = ["Your order was sent yesterday.", "No.", "The answer to the question is that there is no answer."]
# Bounds on the perplexity of the tiny model, relative to transformers in fp32: weights are rounded to fp16 in OpenVINO
# and llama.cpp, to int8 with scales per block in ONNX.
PERPLEXITY = {"transformers": 1e-5, "openvino": 0.002, "llamacpp": 0.005, "onnxruntime": 0.05}

Told = list[tuple[list[float], list[bool]]]


async def _told(engine: ProcessEngine) -> Told:
    encode, chat = engine.tokenizer.encode, engine.tokenizer.encode_chat
    pairs = [(chat(request(prompt).messages), encode(text)) for prompt in PROMPTS for text in ANSWERS]
    return list(await asyncio.gather(*(engine.token_choices(prompt, answer) for prompt, answer in pairs)))


def _reference(model: Model) -> Told:
    """Return what transformers' own forward pass says, one text at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    from vivace.models import ChatTokenizer

    network = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32).eval()
    tokenizer = ChatTokenizer.open(model.path)
    told = []
    for prompt in PROMPTS:
        prompt_ids = tokenizer.encode_chat(request(prompt).messages)
        for text in ANSWERS:
            ids = list(tokenizer.encode(text))
            with torch.no_grad():
                rows = network(torch.tensor([[*prompt_ids, *ids]])).logits[0, len(prompt_ids) - 1 : -1]
            logprobs = rows.log_softmax(-1)[range(len(ids)), ids].tolist()
            told.append((logprobs, [int(row.argmax()) == token for row, token in zip(rows, ids, strict=True)]))
    return told


def _perplexity(told: Told) -> float:
    values = [value for logprobs, _ in told for value in logprobs]
    return math.exp(-math.fsum(values) / len(values))


@pytest.mark.slow
def test_perplexity_and_choices_are_those_of_transformers(any_model: Model, tiny_hf: Model) -> None:
    name = default_engine(any_model.format)
    ours, theirs = with_engine(name, any_model, _told, threads=1), _reference(tiny_hf)
    assert _perplexity(ours) == pytest.approx(_perplexity(theirs), rel=PERPLEXITY[name])
    flags = [
        (mine, other) for (_, a), (_, b) in zip(ours, theirs, strict=True) for mine, other in zip(a, b, strict=True)
    ]
    same = sum(mine == other for mine, other in flags)
    # Rounded weights choose otherwise where two tokens are nearly as likely; in fp32 none does.
    assert same == len(flags) if name in ("transformers", "openvino") else same >= 0.95 * len(flags)


@pytest.mark.slow
def test_an_engine_would_choose_its_own_answer_and_no_other(any_model: Model) -> None:
    async def story(engine: ProcessEngine) -> None:
        assert isinstance(engine, GreedyLikelihood)
        for prompt in PROMPTS:
            ids = engine.tokenizer.encode_chat(request(prompt).messages)
            answer = tuple(await ids_of(engine, prompt, max_tokens=8, ignore_eos=True))
            logprobs, greedy = await engine.token_choices(ids, answer)
            assert logprobs == await engine.token_logprobs(ids, answer)
            other = (answer[0], (answer[1] + 1) % engine.tokenizer.vocab_size, *answer[2:])
            assert (await engine.token_choices(ids, other))[1][:2] == [True, False]
            # What is read at once and what was written token by token may differ in the last bits: at near ties only.
            assert sum(greedy) >= len(answer) - 1

    with_engine(default_engine(any_model.format), any_model, story, threads=1)


def test_an_engine_that_knows_no_choices_says_none(tmp_path: Path) -> None:
    async def story(engine: ProcessEngine) -> None:
        assert await engine.token_choices((1, 2), (3, 4)) == (await engine.token_logprobs((1, 2), (3, 4)), [])

    with_engine("echo", echo(tmp_path), story)
