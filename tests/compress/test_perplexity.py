"""What compression costs a real model, on the answers of the example's held-out conversations."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.compress.numbers import Floats, OpenVinoModel, token_logprobs, torch_logits
from vivace.compress import export
from vivace.domain import Message, Model, SilentProgress
from vivace.models import ChatTokenizer

pytestmark = [pytest.mark.slow, pytest.mark.real]

TEST = Path(__file__).parents[2] / "examples" / "support" / "test.jsonl"


def _conversations(tokenizer: ChatTokenizer, count: int) -> Iterator[list[int]]:
    for line in TEST.read_text(encoding="utf-8").splitlines()[:count]:
        turns = [Message(turn["role"], turn["content"]) for turn in json.loads(line)["messages"]]
        yield list(tokenizer.encode_chat(turns, add_generation_prompt=False))


@pytest.fixture(scope="module")
def texts(real_model: Path) -> list[list[int]]:
    return list(_conversations(ChatTokenizer.open(real_model), 30))


@pytest.fixture(scope="module")
def reference(real_model: Path, texts: list[list[int]]) -> list[Floats]:
    logits = torch_logits(real_model, texts)
    return [token_logprobs(rows, ids) for rows, ids in zip(logits, texts, strict=True)]


def _perplexity(logprobs: list[Floats]) -> float:
    return float(np.exp(-np.concatenate(logprobs).mean()))


def _of_openvino(folder: Path, texts: list[list[int]]) -> list[Floats]:
    graph = OpenVinoModel(folder)
    return [token_logprobs(graph.whole(ids), ids) for ids in texts]


@pytest.mark.parametrize(
    ("kind", "measure", "cost"),
    [
        ("openvino-int8", _of_openvino, 0.01),
    ],
)
def test_compression_costs_no_more_perplexity_than_promised(
    real_model: Path,
    texts: list[list[int]],
    reference: list[Floats],
    tmp_path: Path,
    kind: str,
    measure: Callable[[Path, list[list[int]]], list[Floats]],
    cost: float,
) -> None:
    exported = export(Model("base", real_model, "hf", "fp32"), kind, tmp_path / kind, SilentProgress())
    before, after = _perplexity(reference), _perplexity(measure(exported.path, texts))
    print(f"{kind}: perplexity {before:.3f} -> {after:.3f} ({after / before - 1:+.2%})")
    assert abs(after / before - 1) < cost
