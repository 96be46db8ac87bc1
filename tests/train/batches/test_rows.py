"""The mask: every token that is learned, and no other."""

import shutil
from pathlib import Path

import pytest

from vivace.domain import Example, FunctionCall, Message, ToolCall
from vivace.errors import DataError, ModelError
from vivace.models import ChatTokenizer
from vivace.train.batches.rows import IGNORED, encode_examples, encode_row, with_system

ASK, TELL = Message("user", "Where is my order?"), Message("assistant", "It was sent yesterday.")
MORE, BYE = Message("user", "Thank you!"), Message("assistant", "You are welcome.")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return ChatTokenizer.open(tiny_model)


def with_template(tiny_model: Path, folder: Path, template: str) -> ChatTokenizer:
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(template)
    return ChatTokenizer.open(folder)


def learned_text(tokenizer: ChatTokenizer, ids: tuple[int, ...], labels: tuple[int, ...]) -> list[str]:
    """The runs of learned tokens as text, special tokens shown."""
    runs, run = [], []
    for token, label in zip((*ids, 0), (*labels, IGNORED), strict=True):
        if label != IGNORED:
            assert label == token
            run.append(token)
        elif run:
            runs.append(tokenizer._tokenizer.decode(run, skip_special_tokens=False))
            run = []
    return runs


def test_the_ids_are_those_that_serving_would_send(tokenizer: ChatTokenizer) -> None:
    turns = (Message("system", "Be kind."), ASK, TELL, MORE, BYE)
    row = encode_row(tokenizer, turns)
    assert row.ids == tokenizer.encode_chat(turns, add_generation_prompt=False)
    assert row.ids[: len(tokenizer.encode_chat(turns[:-1]))] == tokenizer.encode_chat(turns[:-1])


def test_exactly_the_answers_and_their_end_tokens_are_learned(tokenizer: ChatTokenizer) -> None:
    row = encode_row(tokenizer, (ASK, TELL, MORE, BYE))
    assert learned_text(tokenizer, row.ids, row.labels) == [
        "It was sent yesterday.<|im_end|>",
        "You are welcome.<|im_end|>",
    ]


def test_a_call_that_the_template_writes_as_nothing_is_read_but_not_learned(tokenizer: ChatTokenizer) -> None:
    call = Message("assistant", tool_calls=(ToolCall("c1", FunctionCall("find_order", "{}")),))
    row = encode_row(tokenizer, (ASK, call, MORE, BYE))
    assert learned_text(tokenizer, row.ids, row.labels) == ["You are welcome.<|im_end|>"]
    assert row.silent == 1
    assert encode_row(tokenizer, (ASK, TELL, MORE, BYE)).silent == 0
    only = Example("1", (ASK, call))
    with pytest.raises(ModelError, match="writes its answers as nothing"):
        encode_examples(tokenizer, [only], "", 512)


def test_the_mask_is_right_token_by_token(tokenizer: ChatTokenizer) -> None:
    row = encode_row(tokenizer, (ASK, TELL))
    prompt = tokenizer.encode_chat((ASK,))
    answer = (*tokenizer.encode("It was sent yesterday."), 2)
    newline = tokenizer.encode("\n")
    assert row.ids == (*prompt, *answer, *newline)
    assert row.labels == (*(IGNORED for _ in prompt), *answer, *(IGNORED for _ in newline))
    assert row.learned == len(answer)


def test_a_turn_of_weight_zero_is_read_but_not_learned(tokenizer: ChatTokenizer) -> None:
    muted = Message("assistant", TELL.content, weight=0)
    row = encode_row(tokenizer, (ASK, muted, MORE, BYE))
    assert row.ids == encode_row(tokenizer, (ASK, TELL, MORE, BYE)).ids
    assert learned_text(tokenizer, row.ids, row.labels) == ["You are welcome.<|im_end|>"]


def test_the_system_prompt_comes_first_unless_the_conversation_brings_its_own() -> None:
    own = (Message("system", "Mine."), ASK, TELL)
    assert with_system((ASK, TELL), "Ours.")[0] == Message("system", "Ours.")
    assert with_system(own, "Ours.") == own
    assert with_system((Message("developer", "Mine."), ASK), "Ours.")[0].content == "Mine."
    assert with_system((ASK, TELL), "") == (ASK, TELL)


def test_a_tool_call_is_learned(tiny_model: Path, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = with_template(tiny_model, tmp_path / "tools", template)
    call = Message("assistant", "", tool_calls=(ToolCall("1", FunctionCall("find", '{"order": 7}')),))
    row = encode_row(tokenizer, (ASK, call, Message("tool", "sent", tool_call_id="1"), BYE))
    assert learned_text(tokenizer, row.ids, row.labels) == ['{"order": 7}<|im_end|>', "You are welcome.<|im_end|>"]


def test_a_template_that_rewrites_earlier_turns_leaves_the_last_answer_to_learn(
    tiny_model: Path, tmp_path: Path
) -> None:
    # As reasoning models do: an empty thought stands before the last answer only.
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if loop.last and m.role == 'assistant' %}[]{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = with_template(tiny_model, tmp_path / "rewriting", template)
    row = encode_row(tokenizer, (ASK, TELL, MORE, BYE))
    assert learned_text(tokenizer, row.ids, row.labels) == ["[]You are welcome.<|im_end|>"]


def test_a_template_without_end_tokens_is_refused_with_the_reason(tiny_model: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}:\n{{ m.content }}\n{% endfor %}"
    template += "{% if add_generation_prompt %}assistant:\n{% endif %}"
    tokenizer = with_template(tiny_model, tmp_path / "endless", template)
    with pytest.raises(ModelError, match="no answer is closed by an end token"):
        encode_examples(tokenizer, [Example("1", (ASK, TELL))], "", 512)


def test_a_template_whose_prompt_is_no_prefix_is_refused_with_the_reason(tiny_model: Path, tmp_path: Path) -> None:
    template = "{% if add_generation_prompt %}Now answer. {% endif %}{% for m in messages %}{{ m.content }}<|im_end|>"
    tokenizer = with_template(tiny_model, tmp_path / "backwards", template + "{% endfor %}")
    with pytest.raises(ModelError, match="cannot be found"):
        encode_examples(tokenizer, [Example("1", (ASK, TELL))], "", 512)


def test_a_template_that_knows_no_system_role_is_refused_with_its_own_words(tiny_model: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer = with_template(tiny_model, tmp_path / "strict", template + "{{ m.content }}<|im_end|>{% endfor %}")
    with pytest.raises(ModelError, match="no system role"):
        encode_examples(tokenizer, [Example("1", (ASK, TELL))], "Be kind.", 512)


def test_long_conversations_lose_their_oldest_exchanges_and_keep_the_system_prompt(tokenizer: ChatTokenizer) -> None:
    example = Example("1", (ASK, TELL, MORE, BYE))
    whole = encode_examples(tokenizer, [example], "Be kind.", 512)
    short = encode_examples(tokenizer, [example], "Be kind.", len(whole.rows[0].ids) - 1)
    assert (whole.shortened, short.shortened) == (0, 1)
    assert short.rows[0] == encode_row(tokenizer, with_system((MORE, BYE), "Be kind."))


def test_what_is_left_out_is_counted_with_its_reason(tokenizer: ChatTokenizer) -> None:
    long = Example("2", (Message("user", "word " * 400), TELL))
    silent = Example("3", (ASK, Message("assistant", "…", weight=0)))
    found = encode_examples(tokenizer, [Example("1", (ASK, TELL)), long, silent], "", 200)
    assert len(found.rows) == 1
    assert found.dropped == {
        "the last exchange alone is longer than max_length": 1,
        "no assistant turn to learn": 1,
    }


def test_nothing_to_learn_from_is_an_error_that_says_why(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(DataError, match="no train example"):
        encode_examples(tokenizer, [], "", 512)
    with pytest.raises(DataError, match="longer than max_length"):
        encode_examples(tokenizer, [Example("1", (ASK, TELL))], "", 8)
