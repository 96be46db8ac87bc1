"""The same model in every format answers alike: log-probabilities of the same answers, within stated bounds."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from vivace.compress import export
from vivace.domain import Message, Model, SilentProgress
from vivace.engines import default_engine, open_engine
from vivace.models import ChatTokenizer, identify

TEST = Path(__file__).parents[2] / "examples" / "support" / "test.jsonl"
# Mean distance of the log-probability of a token to transformers' in fp32, in nats; docs/compress.md states them.
BOUNDS = {
    "openvino-fp16": 0.01,
    "openvino-int8": 0.15,
    "gguf-f16": 0.02,
    "gguf-q8_0": 0.15,
    "onnx-int8": 0.25,
    "onnx-int4": 0.9,
}


def conversations(tokenizer: ChatTokenizer, count: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return prompts and answers as token ids."""
    found = []
    for line in TEST.read_text(encoding="utf-8").splitlines()[:count]:
        turns = [Message(turn["role"], turn["content"]) for turn in json.loads(line)["messages"]]
        prompt = tokenizer.encode_chat(turns[:-1], add_generation_prompt=True)
        whole = tokenizer.encode_chat(turns, add_generation_prompt=False)
        assert whole[: len(prompt)] == prompt
        found.append((prompt, whole[len(prompt) :]))
    return found


def logprobs(model: Model, asked: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[float]:
    async def ask() -> list[float]:
        async with open_engine(default_engine(model.format), model, threads=1) as engine:
            return [value for prompt, answer in asked for value in await engine.token_logprobs(prompt, answer)]

    return asyncio.run(ask())


def distance(folder: Path, kind: str, out: Path, count: int) -> float:
    """Return the mean distance of an export's log-probabilities to those of the model itself."""
    asked = conversations(ChatTokenizer.open(folder), count)
    model = identify(folder)
    made = export(model, kind, out, SilentProgress())
    return float(np.abs(np.subtract(logprobs(made, asked), logprobs(model, asked))).mean())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openvino-fp16", "gguf-f16"])
def test_exact_formats_of_a_small_model_answer_alike(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    assert distance(tiny_model, kind, tmp_path / "out", 4) < BOUNDS[kind]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("kind", list(BOUNDS))
def test_the_real_model_answers_alike_in_every_format(real_model: Path, tmp_path: Path, kind: str) -> None:
    found = distance(real_model, kind, tmp_path / "out", 6)
    print(f"{kind}: {found:.4f} nats a token")
    assert found < BOUNDS[kind]
