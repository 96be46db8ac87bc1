"""Prompts and ids are those of transformers; streams are what decoding gives."""

import json
import random
import shutil
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vivace.domain import FunctionCall, Message, ToolCall
from vivace.errors import ModelError, RequestError
from vivace.models.tokenizer import ChatTokenizer

ALPHABETS = [
    string.ascii_letters + "     ", string.digits + " \n", string.punctuation, "äöüßéñçø", "привет мир ",
    "你好世界，。", "مرحبا ", "नमस्ते", "😀👍🏽👨‍👩‍👧🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "\n\n  \t\r", "\u200b\u00a0\u0301\ufeff\ufffd", "<|im_start|><|im_end|>",
]  # fmt: skip
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def conversations(count: int, seed: int) -> list[list[Message]]:
    """Seeded conversations: with and without system, one to nine turns, empty to long, in many scripts."""
    rng = random.Random(seed)

    def text() -> str:
        kind = rng.random()
        if kind < 0.08:
            return ""
        length = rng.randint(200, 3000) if kind > 0.95 else rng.randint(1, 80)
        alphabet = rng.choice(ALPHABETS) if kind < 0.7 else "".join(ALPHABETS)
        return "".join(rng.choice(alphabet) for _ in range(length))

    made = []
    for _ in range(count):
        turns = [Message("system", text())] if rng.random() < 0.5 else []
        for number in range(rng.randint(1, 9)):
            turns.append(Message("assistant" if number % 2 else "user", text()))
        made.append(turns)
    return made


def assert_parity(folder: Path, count: int, seed: int) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours = ChatTokenizer.open(folder)
    for number, messages in enumerate(conversations(count, seed)):
        prompt = number % 3 != 0
        plain = [{"role": message.role, "content": message.content} for message in messages]
        text = reference.apply_chat_template(plain, tokenize=False, add_generation_prompt=prompt)
        assert ours.render(messages, add_generation_prompt=prompt) == text
        expected = reference.apply_chat_template(plain, tokenize=True, add_generation_prompt=prompt, return_dict=False)
        found = ours.encode_chat(messages, add_generation_prompt=prompt)
        assert list(found) == list(expected)
        assert ours.decode(found) == reference.decode(
            expected, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


@pytest.mark.slow
def test_ids_of_the_tiny_model_are_those_of_transformers(tiny_model: Path) -> None:
    assert_parity(tiny_model, 400, seed=1)


@pytest.mark.slow
@pytest.mark.real
def test_ids_of_the_real_model_are_those_of_transformers(real_model: Path) -> None:
    assert_parity(real_model, 400, seed=2)


@pytest.mark.slow
@pytest.mark.real
def test_the_real_model_has_its_own_tokens(real_model: Path) -> None:
    tokenizer = ChatTokenizer.open(real_model)
    assert tokenizer.eos_ids == {2}
    assert (tokenizer.context_length, tokenizer.vocab_size) == (8192, 49152)
    assert tokenizer.encode("<|im_start|><|im_end|>") == (1, 2)
    # A numbered list after an empty line, as SmolLM2 saw it in training: the two newlines are one token.
    assert len(tokenizer.encode("\n\n1.")) == 3
    prompt = tokenizer.render([Message("user", "Hi")])
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> ChatTokenizer:
    return ChatTokenizer.open(tiny_model)


def streamed(tokenizer: ChatTokenizer, ids: tuple[int, ...]) -> list[str]:
    decoder = tokenizer.stream()
    return [*(decoder.push(number) for number in ids), decoder.flush()]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=ANY_TEXT)
def test_decoding_gives_back_what_was_encoded(tokenizer: ChatTokenizer, text: str) -> None:
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        text = text.replace(special, "")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert "".join(streamed(tokenizer, ids)) == text


@settings(deadline=None, max_examples=150)
@given(ids=st.lists(st.integers(0, 511), max_size=60))
def test_a_stream_of_any_ids_is_what_decoding_gives(tokenizer: ChatTokenizer, ids: list[int]) -> None:
    assert "".join(streamed(tokenizer, tuple(ids))) == tokenizer.decode(ids)


def test_a_stream_never_shows_half_a_character(tokenizer: ChatTokenizer) -> None:
    pieces = streamed(tokenizer, tokenizer.encode("a😀b☃"))
    assert [piece for piece in pieces if piece] == ["a", "😀", "b", "☃"]


def test_an_answer_cut_inside_a_character_says_so(tokenizer: ChatTokenizer) -> None:
    ids = tokenizer.encode("a😀")[:-1]
    pieces = streamed(tokenizer, ids)
    assert pieces[:-1] == ["a", "", "", ""]
    assert set(pieces[-1]) == {"\ufffd"}


def test_special_tokens_are_not_text(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("<|im_start|>a<|im_end|>")) == "a"


def changed(tiny_model: Path, out: Path, name: str, **values: Any) -> Path:
    shutil.copytree(tiny_model, out)
    config = json.loads((out / name).read_text())
    config.update(values)
    (out / name).write_text(json.dumps(config))
    return out


def test_the_template_may_stand_in_the_tokenizer_configuration(tiny_model: Path, tmp_path: Path) -> None:
    for number, written in enumerate(["hi {{ bos_token }}", [{"name": "default", "template": "hi {{ bos_token }}"}]]):
        folder = changed(tiny_model, tmp_path / str(number), "tokenizer_config.json", chat_template=written)
        (folder / "chat_template.jinja").unlink()
        assert ChatTokenizer.open(folder).render([Message("user", "x")]) == "hi <|im_start|>"


def test_a_prompt_begins_with_one_beginning_of_text(tiny_model: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, processors

    folder = shutil.copytree(tiny_model, tmp_path / "m")
    inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    inner.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text("<|endoftext|>{{ messages[0].content }}")
    assert ChatTokenizer.open(folder).encode_chat([Message("user", "x")]).count(0) == 1


def test_eos_is_what_any_of_the_files_says(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(tiny_model, tmp_path / "m", "generation_config.json", eos_token_id=[2, 7])
    assert ChatTokenizer.open(folder).eos_ids == {2, 7}
    folder = changed(tiny_model, tmp_path / "n", "tokenizer_config.json", eos_token={"content": "<|endoftext|>"})
    assert ChatTokenizer.open(folder).eos_ids == {0, 2}


def test_truncation_in_the_file_does_not_shorten_prompts(tiny_model: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = shutil.copytree(tiny_model, tmp_path / "m")
    inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
    inner.enable_truncation(5)
    inner.enable_padding(length=50)
    inner.save(str(folder / "tokenizer.json"))
    assert ChatTokenizer.open(folder).encode("abcdefghijkl" * 9) == ChatTokenizer.open(tiny_model).encode(
        "abcdefghijkl" * 9
    )


def test_a_developer_speaks_as_the_system(tokenizer: ChatTokenizer) -> None:
    assert tokenizer.render([Message("developer", "x")]) == tokenizer.render([Message("system", "x")])


def test_tool_calls_reach_the_template_as_objects(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}"
        "{{ m.tool_call_id }}{% endfor %}"
        "{{ tools | tojson if tools }}"
    )
    call = ToolCall("1", FunctionCall("find", '{"order": 7}'))
    messages = [
        Message("user", "?"),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "sent", tool_call_id="1"),
    ]
    rendered = ChatTokenizer.open(folder).render(messages, tools=[{"type": "function"}])
    assert rendered == '{"name": "find", "arguments": {"order": 7}}1[{"type": "function"}]'


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", "{", "cannot be read"),
        ("tokenizer_config.json", "[]", "no JSON object"),
        ("config.json", '{"model_type": "llama"}', "context"),
        ("chat_template.jinja", "{% for %}", "chat template"),
        ("chat_template.jinja", "{{ nothing.x }}", "chat template"),
        ("chat_template.jinja", "{{ 'a' * 10 ** 9 }}", "chat template"),
    ],
)
def test_a_broken_part_is_named_when_the_folder_is_opened(
    tiny_model: Path, tmp_path: Path, name: str, content: str, said: str
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=said):
        ChatTokenizer.open(folder)


def test_a_folder_without_tokenizer_or_template_is_told_apart(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer.json"):
        ChatTokenizer.open(tmp_path)
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "chat_template.jinja").unlink()
    opened = ChatTokenizer.open(folder)
    assert opened.encode("x")
    with pytest.raises(ModelError, match="no chat template"):
        opened.render([Message("user", "x")])


def test_half_a_surrogate_pair_is_refused(tokenizer: ChatTokenizer) -> None:
    with pytest.raises(RequestError, match="surrogate"):
        tokenizer.encode("a\ud800b")


def test_an_adapters_context_is_that_of_its_model(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_model / "tokenizer.json", tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_model)}))
    assert ChatTokenizer.open(tmp_path).context_length == 1024
