"""The OpenVINO engine is exact, bounded, and remembers prefixes."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.engines.asking import ids_of, request, with_engine
from vivace.domain import Model
from vivace.engines import ProcessEngine
from vivace.engines.frames import Load
from vivace.engines.openvino import BLOCK_TOKENS, cache_blocks
from vivace.errors import ResourceError

PROMPTS = ["Hello!", "What time is breakfast served in the hotel?", "I would like to know where my order is. " * 4]
ANSWERS = ["Your order was sent yesterday.", "No.", "The answer to the question is that there is no answer."]


async def _likelihoods(engine: ProcessEngine) -> list[list[float]]:
    encode, chat = engine.tokenizer.encode, engine.tokenizer.encode_chat
    pairs = [(chat(request(prompt).messages), encode(text)) for prompt in PROMPTS for text in ANSWERS]
    # Asked at once and one by one, before and after the prompts are in the prefix cache: always the same.
    at_once = await asyncio.gather(*(engine.token_logprobs(prompt, answer) for prompt, answer in pairs))
    for prompt in PROMPTS:
        await ids_of(engine, prompt, max_tokens=4)
    one_by_one = [await engine.token_logprobs(prompt, answer) for prompt, answer in pairs]
    assert [value for row in one_by_one for value in row] == pytest.approx(
        [v for row in at_once for v in row], abs=1e-4
    )
    return at_once


@pytest.mark.slow
def test_likelihoods_agree_with_transformers(tiny_hf: Model, tiny_openvino: Model) -> None:
    ours = with_engine("openvino", tiny_openvino, _likelihoods, threads=1)
    theirs = with_engine("transformers", tiny_hf, _likelihoods, threads=1)
    # The weights are rounded to fp16, arithmetic is fp32.
    for row, reference in zip(ours, theirs, strict=True):
        assert row == pytest.approx(reference, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("prefix_cache", [True, False])
def test_answers_do_not_depend_on_the_prefix_cache_nor_on_reading_in_portions(
    tiny_hf: Model, tiny_openvino: Model, prefix_cache: bool
) -> None:
    async def story(engine: ProcessEngine) -> list[list[int]]:
        long = "Your order was sent yesterday and should arrive on Friday. " * 8
        return [await ids_of(engine, long + prompt, max_tokens=10, ignore_eos=True) for prompt in (*PROMPTS, *PROMPTS)]

    exact = {"kv_cache_precision": "f32", "max_num_batched_tokens": 64}
    got = with_engine("openvino", tiny_openvino, story, threads=1, prefix_cache=prefix_cache, options=exact)
    assert got == with_engine("transformers", tiny_hf, story, threads=1)


def _load(folder: Path, context_length: int = 8192, max_batch: int = 32) -> Load:
    config = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64}
    (folder / "config.json").write_text(json.dumps(config))
    return Load("openvino", str(folder), "openvino", 1, max_batch, True, context_length, 49152, (2,))


def test_the_cache_has_room_for_the_batch_but_takes_no_more_than_a_quarter_of_memory(tmp_path: Path) -> None:
    roomy = cache_blocks(_load(tmp_path), "u8", 64 * 2**30)
    assert roomy * BLOCK_TOKENS == 32 * 2048
    tight = cache_blocks(_load(tmp_path), "u8", 2 * 2**30)
    assert 8192 < tight * BLOCK_TOKENS < 32 * 2048
    assert cache_blocks(_load(tmp_path), "f16", 2 * 2**30) < tight


def test_a_machine_that_cannot_hold_one_conversation_is_told_the_figures(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"8192 tokens needs 107 MB, a quarter of the free memory is 25 MB"):
        cache_blocks(_load(tmp_path), "u8", 100_000_000)
