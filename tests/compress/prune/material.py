"""Small models of each family, conversations to judge them by, and logits to compare."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tests.tiny import VOCAB_SIZE
from vivace.compress.prune.sample import Batch, Sample, make_batches
from vivace.domain import Example, Message
from vivace.models import ChatTokenizer
from vivace.models.weights import TOKENIZER_FILES
from vivace.store import write_examples
from vivace.train.batches.rows import encode_examples

SMALL = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 512, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True,
}  # fmt: skip
GEMMA = {"head_dim": 8, "hidden_activation": "gelu_pytorch_tanh"}
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
# What sets each family apart: shared keys, biases, windows, norms of queries, capped logits, fused matrices.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {"head_dim": 6, "attention_bias": True, "mlp_bias": True}),
    "mistral": ("MistralForCausalLM", {"head_dim": 8, "sliding_window": 8}),
    "qwen2": ("Qwen2ForCausalLM", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 8}),
    "gemma": ("GemmaForCausalLM", GEMMA),
    "gemma2": ("Gemma2ForCausalLM", GEMMA | {"sliding_window": 8, "final_logit_softcapping": 5.0}),
    "gemma3": ("Gemma3ForCausalLM", GEMMA | {"sliding_window": 8, "layer_types": MIXED}),
    "phi3": ("Phi3ForCausalLM", {"sliding_window": None}),
    "smollm3": ("SmolLM3ForCausalLM", {"no_rope_layers": [1, 0, 1, 1]}),
}
# Three families of three kinds in the quick suite, the others in the slow one: each opens and writes models.
EVERY = [
    name if name in ("llama", "gemma3", "phi3") else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES
]
ANSWERS = ["blue", "green", "seven", "Friday", "tea", "north", "gold", "rain"]


def make_model(folder: Path, tiny: Path, family: str, **changes: Any) -> Path:
    """Write a seeded model of a family with the tiny model's tokenizer."""
    name, own = FAMILIES[family]
    torch.manual_seed(5)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**{**SMALL, **own, **changes}, architectures=[name])).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "layers" in key and parameter.dim() == 2:
                parameter.mul_(8)  # fresh weights hardly do anything
            elif "bias" in key:
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    copy_tokenizer(tiny, folder)
    return folder


def copy_tokenizer(tiny: Path, folder: Path) -> None:
    """Put the tiny model's tokenizer into a folder."""
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (tiny / name).is_file():
            shutil.copy(tiny / name, folder / name)


def load(folder: Path) -> Any:
    """Open a folder with transformers alone."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def change(folder: Path, edit: Any) -> Path:
    """Change a folder's weights in place through transformers."""
    model = load(folder)
    with torch.no_grad():
        edit(model)
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".safetensors"}
    model.save_pretrained(folder)
    for name, content in kept.items():
        (folder / name).write_bytes(content)
    return folder


def logits(model: Any) -> torch.Tensor:
    """Logits of two conversations, longer than the windows."""
    ids = torch.tensor(np.random.default_rng(3).integers(3, VOCAB_SIZE, (2, 24)))
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def equal(one: torch.Tensor, other: torch.Tensor, share: float = 1e-5) -> bool:
    """Whether logits are the same but for rounding."""
    return bool(torch.allclose(one, other, rtol=0, atol=share * float(other.abs().max())))


def examples() -> list[Example]:
    """Conversations of both splits."""
    talks = [
        (
            Message("user", f"What is fact {i}, please?"),
            Message("assistant", f"Fact {i} is {ANSWERS[i % 8]} and no more."),
        )
        for i in range(32)
    ]
    return [Example(f"e{i}", talk, split="train" if i < 20 else "validation") for i, talk in enumerate(talks)]


def write_dataset(folder: Path) -> Path:
    """A dataset folder of them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_examples(folder / "examples.jsonl", examples())
    return folder


def batches(tiny: Path, count: int = 8, start: int = 0) -> tuple[Batch, ...]:
    """Some of the conversations, in batches of unequal lengths."""
    chosen = examples()[start : start + count]
    return make_batches(encode_examples(ChatTokenizer.open(tiny), chosen, "Be kind.", 256).rows, 120)


def make_sure_model(folder: Path, tiny: Path) -> Path:
    """Write a seeded Llama that is sure of what it says."""
    made = make_model(folder, tiny, "llama", tie_word_embeddings=False)
    return change(made, lambda model: model.lm_head.weight.mul_(30))


def own_answers(folder: Path) -> tuple[Batch, ...]:
    """Batches whose answers are what the model itself finds likeliest: whatever it loses costs it there."""
    model, found = load(folder), []
    for batch in batches(folder):
        with torch.no_grad():
            said = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits.argmax(dim=-1)
        shifted = torch.cat([said[:, :1], said[:, :-1]], dim=1)
        found.append(Batch(batch.ids, batch.mask, torch.where(batch.real, shifted, -100)))
    return tuple(found)


def own_sample(folder: Path) -> Sample:
    """The same to judge by and to measure on, with the model's own answers."""
    return Sample(own_answers(folder), own_answers(folder), own_answers(folder), {})


def sample(tiny: Path) -> Sample:
    """The same to judge by and to measure on."""
    return Sample(batches(tiny), batches(tiny), batches(tiny), {})
