"""Tiny models that speak as five families do: their special tokens, way of cutting text, and chat format.

The templates are written here from the formats that the models' publishers document; the weights are the tiny model's.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.tiny import LINES, VOCAB_SIZE, build_tiny_model

_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_WORDS = _QWEN_WORDS.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)


class Family(Struct, frozen=True):
    """A family's special tokens (the first begins a text), ends of a turn, template and kind of tokenizer."""

    specials: tuple[str, ...]
    first: str
    ends: tuple[str, ...]
    template: str
    kind: str
    adds_first: bool = False


_CHATML_TURNS = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SMOLLM_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_LLAMA_HEADER = "<|start_header_id|>{}<|end_header_id|>\n\n"

FAMILIES: dict[str, Family] = {
    "chatml": Family(
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        first="<|im_start|>",
        ends=("<|im_end|>",),
        template="{% if messages[0].role != 'system' %}<|im_start|>system\n"
        + _SMOLLM_SYSTEM
        + "<|im_end|>\n{% endif %}"
        + _CHATML_TURNS,
        kind="smollm",
    ),
    "llama-3": Family(
        specials=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        first="<|begin_of_text|>",
        ends=("<|end_of_text|>", "<|eot_id|>"),
        template=(
            "{{ bos_token }}{% if messages[0].role == 'system' %}{% set rules, turns = messages[0].content, "
            "messages[1:] %}{% else %}{% set rules, turns = '', messages %}{% endif %}"
            + _LLAMA_HEADER.format("system")
            + "{% if tools %}Environment: ipython\n{% endif %}{{ rules | trim }}"
            "{% for tool in tools or [] %}\n{{ tool | tojson }}{% endfor %}<|eot_id|>"
            "{% for turn in turns %}{% if turn.role == 'tool' %}"
            + _LLAMA_HEADER.format("ipython")
            + "{{ turn.content }}{% elif turn.tool_calls %}"
            + _LLAMA_HEADER.format("assistant")
            + '{"name": "{{ turn.tool_calls[0].function.name }}", "parameters": '
            "{{ turn.tool_calls[0].function.arguments | tojson }}}{% else %}"
            + _LLAMA_HEADER.format("{{ turn.role }}")
            + "{{ turn.content | trim }}{% endif %}<|eot_id|>{% endfor %}"
            "{% if add_generation_prompt %}" + _LLAMA_HEADER.format("assistant") + "{% endif %}"
        ),
        kind="llama-bpe",
        adds_first=True,
    ),
    "mistral": Family(
        specials=("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                  "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        first="<s>",
        ends=("</s>",),
        template=(
            "{% if messages[0].role == 'system' %}{% set rules, turns = messages[0].content, messages[1:] %}"
            "{% else %}{% set rules, turns = '', messages %}{% endif %}{{ bos_token }}"
            "{% set asked = namespace(last=0, expects='user') %}{% for turn in turns %}"
            "{% if turn.role == 'user' %}{% set asked.last = loop.index0 %}{% endif %}"
            "{% if turn.role != 'tool' and not turn.tool_calls %}{% if turn.role != asked.expects %}"
            "{{ raise_exception('roles must alternate') }}{% endif %}"
            "{% set asked.expects = 'assistant' if turn.role == 'user' else 'user' %}{% endif %}{% endfor %}"
            "{% for turn in turns %}{% if turn.role == 'user' %}"
            "{% if tools and loop.index0 == asked.last %}[AVAILABLE_TOOLS] {{ tools | tojson }}[/AVAILABLE_TOOLS]"
            "{% endif %}[INST] {% if rules and loop.index0 == asked.last %}{{ rules }}\n\n{% endif %}"
            "{{ turn.content }}[/INST]{% elif turn.role == 'tool' %}[TOOL_RESULTS] {{ turn.content }}[/TOOL_RESULTS]"
            "{% elif turn.tool_calls %}[TOOL_CALLS] {% for call in turn.tool_calls %}{{ call.function | tojson }}"
            "{% endfor %}</s>{% else %} {{ turn.content | trim }}</s>{% endif %}{% endfor %}"
        ),
        kind="default",
        adds_first=True,
    ),
    "gemma": Family(
        specials=("<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        first="<bos>",
        ends=("<eos>", "<end_of_turn>"),
        template=(
            "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
            "{% endif %}{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
            "{{ raise_exception('roles must alternate') }}{% endif %}"
            "<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
            "{{ message.content | trim }}<end_of_turn>\n{% endfor %}"
            "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
        ),
        kind="default",
        adds_first=True,
    ),
    "qwen": Family(
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"),
        first="<|endoftext|>",
        ends=("<|im_end|>", "<|endoftext|>"),
        template=(
            "{% if messages[0].role == 'system' %}{% set rules, turns = messages[0].content, messages[1:] %}{% else %}"
            "{% set rules, turns = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.', messages %}"
            "{% endif %}<|im_start|>system\n{{ rules }}{% if tools %}\n\n# Tools\n\n<tools>"
            "{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>{% endif %}<|im_end|>\n"
            "{% for turn in turns %}{% if turn.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ turn.content }}\n"
            "</tool_response><|im_end|>\n{% else %}<|im_start|>{{ turn.role }}\n{{ turn.content }}"
            "{% for call in turn.tool_calls or [] %}\n<tool_call>\n"
            '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
            "\n</tool_call>{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
        kind="qwen2",
    ),
}  # fmt: skip


def build_family(name: str, out: Path, *, seed: int = 0) -> Path:
    """Write a tiny Hugging Face folder that speaks as a family does into `out` and return it."""
    family = FAMILIES[name]
    build_tiny_model(out, seed=seed)
    tokenizer = TOKENIZERS[family.kind](family)
    tokenizer.save(str(out / "tokenizer.json"))
    numbers = sorted(_number(tokenizer, end) for end in family.ends)
    named = {
        "bos_token": family.first,
        "eos_token": family.ends[-1],
        "pad_token": family.ends[-1],
        "unk_token": family.specials[0],
    }
    write(out / "special_tokens_map.json", named)
    change(out / "tokenizer_config.json", named)
    ids = {"bos_token_id": _number(tokenizer, family.first), "eos_token_id": numbers, "pad_token_id": numbers[-1]}
    change(out / "config.json", ids)
    change(out / "generation_config.json", ids)
    (out / "chat_template.jinja").write_text(family.template, encoding="utf-8")
    return out


def change(path: Path, values: dict[str, Any]) -> None:
    """Set keys of a JSON file; None takes a key out."""
    told = json.loads(path.read_text(encoding="utf-8")) | values
    write(path, {key: value for key, value in told.items() if value is not None})


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _number(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None
    return int(number)


def _byte_level(family: Family, split: Any, normalizer: Any = None, *, ignore_merges: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=1,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in family.specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*LINES, "1234567890 12 345 don't I'll we've\n\n  spaces"], trainer)
    if family.adds_first:
        _add_first(tokenizer, family.first)
    return tokenizer


def _words(pattern: str) -> Any:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _smollm(family: Family) -> Tokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return _byte_level(family, pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def _qwen(family: Family) -> Tokenizer:
    return _byte_level(family, _words(_QWEN_WORDS), normalizers.NFC())


def _llama(family: Family) -> Tokenizer:
    return _byte_level(family, _words(_LLAMA_WORDS), ignore_merges=True)


def _sentencepiece(family: Family) -> Tokenizer:
    """Return BPE over letters with the space as one, and single bytes for all that it never saw."""
    learner = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=180, min_frequency=1, show_progress=False)
    learner.train_from_iterator([("▁" + line).replace(" ", "▁") for line in LINES], trainer)
    learned = json.loads(learner.to_str())["model"]
    merges: dict[str, tuple[str, str]] = {}
    for left, right in learned["merges"]:
        merges.setdefault(left + right, (left, right))
    letters = [token for token in learned["vocab"] if len(token) == 1]
    tokens = [*family.specials, *(f"<0x{number:02X}>" for number in range(256)), *letters, *merges]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    assert len(vocabulary) == len(tokens) <= VOCAB_SIZE
    pairs = list(merges.values())
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.specials])
    _add_first(tokenizer, family.first)
    return tokenizer


def _add_first(tokenizer: Tokenizer, first: str) -> None:
    number = _number(tokenizer, first)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A", special_tokens=[(first, number)])


TOKENIZERS: dict[str, Callable[[Family], Tokenizer]] = {
    "smollm": _smollm,
    "qwen2": _qwen,
    "llama-bpe": _llama,
    "default": _sentencepiece,
}
