"""What GGUF costs the real model, on the answers of the example's held-out conversations."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.compress.gguf.reading import LlamaCpp, write
from tests.compress.numbers import token_logprobs, torch_logits
from vivace.domain import Message
from vivace.models import ChatTokenizer

pytestmark = [pytest.mark.slow, pytest.mark.real]

TEST = Path(__file__).parents[3] / "examples" / "support" / "test.jsonl"


@pytest.fixture(scope="module")
def texts(real_model: Path) -> list[list[int]]:
    tokenizer = ChatTokenizer.open(real_model)
    rows = [json.loads(line)["messages"] for line in TEST.read_text(encoding="utf-8").splitlines()[:16]]
    turns = [[Message(turn["role"], turn["content"]) for turn in row] for row in rows]
    return [list(tokenizer.encode_chat(each, add_generation_prompt=False)) for each in turns]


@pytest.fixture(scope="module")
def reference(real_model: Path, texts: list[list[int]]) -> float:
    return _loss([token_logprobs(rows, ids) for rows, ids in zip(torch_logits(real_model, texts), texts, strict=True)])


def _loss(logprobs: list[np.ndarray]) -> float:
    return float(-np.concatenate(logprobs).mean())


@pytest.mark.parametrize(("kind", "cost"), [("gguf-f16", 0.02), ("gguf-q8_0", 0.03), ("gguf-q4_k_m", 0.15)])
def test_a_file_costs_no_more_perplexity_than_promised(
    real_model: Path, texts: list[list[int]], reference: float, tmp_path: Path, kind: str, cost: float
) -> None:
    with LlamaCpp(write(real_model, tmp_path / "out.gguf", kind)) as model:
        loss = _loss([token_logprobs(model.logits(ids), ids) for ids in texts])
    print(f"{kind}: perplexity {np.exp(reference):.3f} -> {np.exp(loss):.3f} ({np.exp(loss - reference) - 1:+.2%})")
    assert abs(np.exp(loss - reference) - 1) < cost


def test_llama_cpp_reads_texts_of_the_domain_as_we_do(real_model: Path, texts: list[list[int]], tmp_path: Path) -> None:
    tokenizer = ChatTokenizer.open(real_model)
    turns = [json.loads(line)["messages"] for line in TEST.read_text(encoding="utf-8").splitlines()]
    with LlamaCpp(write(real_model, tmp_path / "out.gguf", "gguf-q8_0")) as model:
        for text in [turn["content"] for row in turns for turn in row]:
            assert model.tokens(text) == list(tokenizer.encode(text)), repr(text)
        template = [tokenizer.render([Message(turn["role"], turn["content"]) for turn in row]) for row in turns]
        for text in template:
            assert model.tokens(text) == list(tokenizer.encode(text)), repr(text)
