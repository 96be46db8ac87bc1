"""The transformers engine says what transformers says."""

import asyncio
from pathlib import Path

import pytest

from tests.engines.asking import ask, ids_of, request, with_engine
from vivace.domain import Model, Sampling
from vivace.engines import ProcessEngine
from vivace.engines.transformers import _sampling_key
from vivace.errors import ModelError

PROMPTS = ["Hello!", "What time is breakfast served in the hotel?", "I would like to know where my order is. " * 4]
ANSWERS = ["Your order was sent yesterday.", "No.", "The answer to the question is that there is no answer."]


@pytest.mark.slow
def test_greedy_answers_and_likelihoods_are_those_of_transformers_itself(tiny_hf: Model) -> None:
    async def story(engine: ProcessEngine) -> tuple[list[tuple[int, ...]], list[list[int]], list[list[float]]]:
        prompts = [engine.tokenizer.encode_chat(request(prompt).messages) for prompt in PROMPTS]
        answers = await asyncio.gather(*(ids_of(engine, prompt, max_tokens=20, ignore_eos=True) for prompt in PROMPTS))
        told = zip(prompts, ANSWERS, strict=True)
        scored = await asyncio.gather(
            *(engine.token_logprobs(ids, engine.tokenizer.encode(text)) for ids, text in told)
        )
        return prompts, answers, scored

    prompts, answers, scored = with_engine("transformers", tiny_hf, story, threads=1)

    import torch
    from transformers import AutoModelForCausalLM

    from vivace.models import ChatTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_hf.path, dtype=torch.float32)
    tokenizer = ChatTokenizer.open(tiny_hf.path)
    for prompt, answer, text, logprobs in zip(prompts, answers, ANSWERS, scored, strict=True):
        # Without a mask, generate would guess one from the padding token, which is the end-of-turn token here.
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        direct = model.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False, eos_token_id=None)
        assert answer == direct[0, len(prompt) :].tolist()
        wanted = tokenizer.encode(text)
        with torch.no_grad():
            rows = model(torch.tensor([[*prompt, *wanted]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert logprobs == pytest.approx(rows[range(len(wanted)), list(wanted)].tolist(), abs=1e-4)


@pytest.mark.slow
def test_an_adapter_answers_as_its_merged_weights_do(tiny_hf: Model, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from vivace.models import identify, load_causal_lm, save_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(load_causal_lm(tiny_hf.path), config)
    adapted.save_pretrained(tmp_path / "adapter")
    save_model(adapted.merge_and_unload(), tiny_hf.path, tmp_path / "merged")

    async def story(engine: ProcessEngine) -> str:
        return (await ask(engine, PROMPTS[1], max_tokens=16, ignore_eos=True))[0]

    adapter = Model("adapter", tmp_path / "adapter", "adapter", "fp32", base=tiny_hf.path)
    told = [
        with_engine("transformers", model, story, threads=1)
        for model in (adapter, identify(tmp_path / "merged"), tiny_hf)
    ]
    assert told[0] == told[1] != told[2]


@pytest.mark.slow
def test_learned_tokens_are_refused_in_a_sentence(tiny_hf: Model, tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model

    from vivace.models import load_causal_lm

    config = PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    get_peft_model(load_causal_lm(tiny_hf.path), config).save_pretrained(tmp_path / "adapter")

    async def story(engine: ProcessEngine) -> None:
        raise AssertionError("it was opened")

    adapter = Model("adapter", tmp_path / "adapter", "adapter", "fp32", base=tiny_hf.path)
    with pytest.raises(ModelError, match=r"holds learned tokens \(prompt tuning\)"):
        with_engine("transformers", adapter, story, threads=1)


def test_requests_sampled_differently_do_not_share_a_batch() -> None:
    assert _sampling_key(Sampling(seed=1)) == _sampling_key(Sampling(seed=2, top_p=0.3))
    assert _sampling_key(Sampling(seed=1, temperature=1)) != _sampling_key(Sampling(seed=2, temperature=1))
