"""The assistant mask is right, token by token, for the chat formats of the common families.

The templates are written here from the token formats that the models' publishers document.
"""

import json
import shutil
from pathlib import Path

import pytest
from msgspec import Struct
from tokenizers import Tokenizer

from vivace.domain import Example, Message
from vivace.errors import ModelError
from vivace.models import ChatTokenizer
from vivace.train.batches.rows import IGNORED, Row, encode_examples, encode_row

RULES, ASK, TELL, MORE, BYE = "Be kind.", "Where is my order?", "It was sent.", "Thank you!", "You are welcome."
TALK = (Message("user", ASK), Message("assistant", TELL), Message("user", MORE), Message("assistant", BYE))
SYSTEM = Message("system", RULES)


class Family(Struct, frozen=True):
    """A chat format and what TALK looks like in it: pieces of text, those in the mask marked by a plus."""

    template: str
    specials: tuple[str, ...]
    ends: tuple[str, ...]
    pieces: tuple[str, ...]
    system: tuple[str, ...] = ()
    """The pieces with a system prompt; empty where the family has none."""


CHATML_TAIL = (
    f"<|im_start|>user\n{ASK}<|im_end|>\n<|im_start|>assistant\n",
    f"+{TELL}<|im_end|>",
    f"\n<|im_start|>user\n{MORE}<|im_end|>\n<|im_start|>assistant\n",
    f"+{BYE}<|im_end|>",
    "\n",
)
CHATML = (
    "{%% if messages[0].role != 'system' %%}<|im_start|>system\n%s<|im_end|>\n{%% endif %%}"
    "{%% for message in messages %%}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)

FAMILIES = {
    "llama-3": Family(
        template=(
            "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n"
            "{{ message.content | trim }}<|eot_id|>{% endfor %}"
            "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
        ),
        specials=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ends=("<|end_of_text|>", "<|eot_id|>"),
        pieces=(
            f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{ASK}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            f"+{TELL}<|eot_id|>",
            f"<|start_header_id|>user<|end_header_id|>\n\n{MORE}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            f"+{BYE}<|eot_id|>",
        ),
        system=(
            f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{RULES}<|eot_id|>"
            f"<|start_header_id|>user<|end_header_id|>\n\n{ASK}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            f"+{TELL}<|eot_id|>",
            f"<|start_header_id|>user<|end_header_id|>\n\n{MORE}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            f"+{BYE}<|eot_id|>",
        ),
    ),
    # The system prompt stands before the last question only: earlier answers were said after other tokens.
    "mistral": Family(
        template=(
            "{% if messages[0].role == 'system' %}{% set rules, turns = messages[0].content, messages[1:] %}"
            "{% else %}{% set rules, turns = '', messages %}{% endif %}{{ bos_token }}"
            "{% set last = (turns | selectattr('role', 'equalto', 'user') | list)[-1] %}"
            "{% for turn in turns %}{% if (turn.role == 'user') != (loop.index0 % 2 == 0) %}"
            "{{ raise_exception('roles must alternate') }}{% endif %}"
            "{% if turn.role == 'user' %}[INST] {% if rules and turn == last %}{{ rules }}\n\n{% endif %}"
            "{{ turn.content }}[/INST]{% else %} {{ turn.content | trim }}</s>{% endif %}{% endfor %}"
        ),
        specials=("<s>", "</s>", "[INST]", "[/INST]"),
        ends=("</s>",),
        pieces=(
            f"<s>[INST] {ASK}[/INST]",
            f"+ {TELL}</s>",
            f"[INST] {MORE}[/INST]",
            f"+ {BYE}</s>",
        ),
        system=(f"<s>[INST] {ASK}[/INST] {TELL}</s>[INST] {RULES}\n\n{MORE}[/INST]", f"+ {BYE}</s>"),
    ),
    "qwen2.5": Family(
        template=CHATML % "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        ends=("<|im_end|>", "<|endoftext|>"),
        pieces=(
            "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n",
            *CHATML_TAIL,
        ),
        system=(f"<|im_start|>system\n{RULES}<|im_end|>\n", *CHATML_TAIL),
    ),
    "gemma": Family(
        template=(
            "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
            "{% endif %}{% for message in messages %}"
            "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
            "{% endif %}<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}\n"
            "{{ message.content | trim }}<end_of_turn>\n{% endfor %}"
            "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
        ),
        specials=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        ends=("<eos>", "<end_of_turn>"),
        pieces=(
            f"<bos><start_of_turn>user\n{ASK}<end_of_turn>\n<start_of_turn>model\n",
            f"+{TELL}<end_of_turn>",
            f"\n<start_of_turn>user\n{MORE}<end_of_turn>\n<start_of_turn>model\n",
            f"+{BYE}<end_of_turn>",
            "\n",
        ),
    ),
    # The end of the text closes a conversation that nobody is asked to go on with.
    "phi-3": Family(
        template=(
            "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
        ),
        specials=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        ends=("<|endoftext|>", "<|assistant|>", "<|end|>"),
        pieces=(
            f"<|user|>\n{ASK}<|end|>\n<|assistant|>\n",
            f"+{TELL}<|end|>",
            f"\n<|user|>\n{MORE}<|end|>\n<|assistant|>\n",
            f"+{BYE}<|end|>",
            "\n<|endoftext|>",
        ),
        system=(
            f"<|system|>\n{RULES}<|end|>\n<|user|>\n{ASK}<|end|>\n<|assistant|>\n",
            f"+{TELL}<|end|>",
            f"\n<|user|>\n{MORE}<|end|>\n<|assistant|>\n",
            f"+{BYE}<|end|>",
            "\n<|endoftext|>",
        ),
    ),
    "smollm2": Family(
        template=CHATML % "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        ends=("<|im_end|>",),
        pieces=(
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n",
            *CHATML_TAIL,
        ),
        system=(f"<|im_start|>system\n{RULES}<|im_end|>\n", *CHATML_TAIL),
    ),
}


@pytest.fixture(scope="module")
def tokenizers(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    """The tiny tokenizer with each family's special tokens and template."""
    return {name: made(tiny_model, tmp_path_factory.mktemp(name), family) for name, family in FAMILIES.items()}


def made(tiny_model: Path, folder: Path, family: Family) -> ChatTokenizer:
    shutil.copy(tiny_model / "config.json", folder)
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    tokenizer.add_special_tokens(list(family.specials))
    tokenizer.save(str(folder / "tokenizer.json"))
    numbers = [tokenizer.token_to_id(end) for end in family.ends]
    config = json.loads((tiny_model / "config.json").read_text()) | {"eos_token_id": numbers}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": numbers}))
    special = {"bos_token": family.specials[0], "eos_token": family.ends[0]}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "chat_template.jinja").write_text(family.template)
    return ChatTokenizer.open(folder)


def by_hand(tokenizer: ChatTokenizer, pieces: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ids: list[int] = []
    labels: list[int] = []
    for piece in pieces:
        numbers = tokenizer.encode(piece.removeprefix("+"))
        ids += numbers
        labels += numbers if piece.startswith("+") else [IGNORED] * len(numbers)
    return tuple(ids), tuple(labels)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_mask_equals_one_made_by_hand(tokenizers: dict[str, ChatTokenizer], name: str) -> None:
    family, tokenizer = FAMILIES[name], tokenizers[name]
    row = encode_row(tokenizer, TALK)
    assert tokenizer._tokenizer.decode(list(row.ids), skip_special_tokens=False) == "".join(
        piece.removeprefix("+") for piece in family.pieces
    )
    assert (row.ids, row.labels) == by_hand(tokenizer, family.pieces)
    assert all(tokenizer.token_id(special) is not None for special in family.specials)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.system])
def test_the_mask_with_a_system_prompt_equals_one_made_by_hand(tokenizers: dict[str, ChatTokenizer], name: str) -> None:
    row = encode_row(tokenizers[name], (SYSTEM, *TALK))
    assert (row.ids, row.labels) == by_hand(tokenizers[name], FAMILIES[name].system)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_what_is_learned_is_what_serving_would_have_said(tokenizers: dict[str, ChatTokenizer], name: str) -> None:
    """Each learned run follows the prompt that serving sends, and ends where serving stops."""
    tokenizer = tokenizers[name]
    row = encode_row(tokenizer, TALK)
    for index in (1, 3):
        prompt = tokenizer.encode_chat(TALK[:index], add_generation_prompt=True)
        assert row.ids[: len(prompt)] == prompt
        rest = row.labels[len(prompt) :]
        stop = next(i for i, number in enumerate(row.ids[len(prompt) :]) if number in tokenizer.eos_ids)
        assert IGNORED not in rest[: stop + 1]
        assert index == 1 or set(rest[stop + 1 :]) <= {IGNORED}


def test_a_family_without_system_prompt_says_so(tokenizers: dict[str, ChatTokenizer]) -> None:
    with pytest.raises(ModelError, match="System role not supported"):
        encode_examples(tokenizers["gemma"], [Example("1", TALK)], RULES, 512)


def test_turns_a_template_refuses_are_left_out_with_the_reason(tokenizers: dict[str, ChatTokenizer]) -> None:
    twice = Example("2", (Message("user", ASK), *TALK))
    for name in ("mistral", "gemma"):
        found = encode_examples(tokenizers[name], [Example("1", TALK), twice], "", 512)
        assert len(found.rows) == 1
        assert [reason for reason in found.dropped if "roles must alternate" in reason]


def test_thoughts_that_a_template_drops_from_earlier_turns_leave_the_last_answer_to_learn(
    tiny_model: Path, tmp_path: Path
) -> None:
    """As Qwen3 and other reasoning models do: the thoughts of earlier answers are no more in the prompt."""
    base = FAMILIES["qwen2.5"]
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{{ m.content if loop.last else m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = made(tiny_model, tmp_path, Family(template, base.specials, base.ends, ()))
    think = "<think>Hm.</think>"
    turns = (TALK[0], Message("assistant", think + TELL), TALK[2], Message("assistant", think + BYE))
    row = encode_row(tokenizer, turns)
    prompt = tokenizer.encode_chat(turns[:3])
    answer = tokenizer.encode(f"{think}{BYE}<|im_end|>")
    assert row.labels[: len(prompt)] == (IGNORED,) * len(prompt)
    assert row.labels[len(prompt) : len(prompt) + len(answer)] == answer
    # An answer without thoughts is not rewritten, and is learned too.
    plain: Row = encode_row(tokenizer, (*TALK[:2], TALK[2], Message("assistant", think + BYE)))
    assert plain.learned == row.learned + len(tokenizer.encode(f"{TELL}<|im_end|>"))
