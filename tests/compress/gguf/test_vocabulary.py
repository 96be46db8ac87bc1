"""llama.cpp reads texts into the tokens that the model was trained on, or the export is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.compress.gguf.reading import LlamaCpp, changed, write
from tests.tiny import LINES, SPECIALS
from vivace.compress.gguf.vocabulary import _PATTERNS, read_vocabulary
from vivace.domain import Message
from vivace.errors import ModelError
from vivace.models import ChatTokenizer
from vivace.models.gguf import convert_gguf

TEXTS = [
    *LINES,
    "",
    " ",
    "  ",
    "a",
    " a",
    "  two  spaces ",
    "tabs\tand\nlines\n\n\nmore\r\n",
    "1234567890 12 3,456.78 £9",
    "don't I'LL we've",
    "Straße café ÀÉÎ ñandú",
    "日本語のテキスト、中文文本。한국어",
    "emoji 👩\u200d💻👍🏽🎉",
    "العربية עברית",
    "Ελληνικά кириллица",
    "<|im_start|>user\nHello<|im_end|>\n",
    "x<|endoftext|>y <|im_end|> z",
    "<|not special|>",
    "½ ² ① Ⅻ",
    "zero\u200bwidth\u00a0nbsp\u2028line",
    "a" * 200,
    "!!!???...---___",
    "https://example.org/a?b=c&d=%20",
    "def f(x):\n    return x  # 1\n",
]


def _trained(pre: Any, *, normalizer: Any = None, ignore_merges: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        min_frequency=1,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*LINES, "1234567890 12 345 don't I'll we've\n\n  spaces"], trainer)
    return tokenizer


def _split(pattern: str) -> Any:
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _gpt2() -> Tokenizer:
    return _trained(pre_tokenizers.ByteLevel(add_prefix_space=False))


def _smollm() -> Tokenizer:
    digits = pre_tokenizers.Digits(individual_digits=True)
    return _trained(pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def _qwen2() -> Tokenizer:
    return _trained(_split(_PATTERNS["qwen2"]), normalizer=normalizers.NFC())


def _llama3() -> Tokenizer:
    tokenizer = _trained(_split(_PATTERNS["llama-bpe"]), ignore_merges=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", pair="<|im_start|> $A <|im_start|> $B", special_tokens=[("<|im_start|>", 1)]
    )
    return tokenizer


def _sentencepiece() -> Tokenizer:
    # Learned on texts with the space as a letter, then put together as SentencePiece does: bytes, letters, merges.
    learner = Tokenizer(models.BPE())
    learner.train_from_iterator(
        [("▁" + line).replace(" ", "▁") for line in LINES],
        trainers.BpeTrainer(vocab_size=200, min_frequency=1, show_progress=False),
    )
    learned = json.loads(learner.to_str())["model"]
    single = [token for token in learned["vocab"] if len(token) == 1]
    merges, merged = [], []
    for left, right in learned["merges"]:
        if left + right not in merged:
            merges.append((left, right))
            merged.append(left + right)
    specials = ["<unk>", "<s>", "</s>"]
    tokens = [*specials, *(f"<0x{number:02X}>" for number in range(256)), *single, *merged]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


TOKENIZERS = {"gpt-2": _gpt2, "smollm": _smollm, "qwen2": _qwen2, "llama-bpe": _llama3, "default": _sentencepiece}


def _with(tiny: Path, out: Path, make: Callable[[], Tokenizer]) -> Path:
    shutil.copytree(tiny, out)
    make().save(str(out / "tokenizer.json"))
    if make is _sentencepiece:
        named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        (out / "tokenizer_config.json").write_text(json.dumps(named))
        (out / "special_tokens_map.json").write_text(json.dumps(named))
    return out


@pytest.mark.parametrize("pre", TOKENIZERS)
def test_llama_cpp_and_we_read_every_text_alike(tiny_model: Path, tmp_path: Path, pre: str) -> None:
    folder = _with(tiny_model, tmp_path / "model", TOKENIZERS[pre])
    assert read_vocabulary(folder, 512).fields["pre"] == pre
    ours = ChatTokenizer.open(folder)
    with LlamaCpp(write(folder, tmp_path / "out.gguf", "gguf-q8_0")) as llama:
        assert llama.size == 512
        for text in TEXTS:
            assert llama.tokens(text) == list(ours.encode(text)), repr(text)
        whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Whether a text begins with a BOS is the tokenizer's own matter, and there is never a second one.
        assert llama.tokens("Hello", add_special=True) == whole.encode("Hello").ids
        assert llama.fact("get_add_bos") == (pre in ("llama-bpe", "default"))
        assert llama.fact("is_eog", llama.fact("eos"))
        assert llama.fact("eos") == 2


@pytest.mark.parametrize("pre", [name for name in TOKENIZERS if name != "default"])
def test_tokenizer_and_template_are_read_back(tiny_model: Path, tmp_path: Path, pre: str) -> None:
    folder = _with(tiny_model, tmp_path / "model", TOKENIZERS[pre])
    convert_gguf(write(folder, tmp_path / "out.gguf", "gguf-q8_0"), tmp_path / "back")
    ours, back = ChatTokenizer.open(folder), ChatTokenizer.open(tmp_path / "back")
    for text in TEXTS:
        assert back.encode(text) == ours.encode(text), repr(text)
        assert back.decode(ours.encode(text)) == ours.decode(ours.encode(text))
    assert (back.template, back.eos_ids, back.context_length) == (ours.template, ours.eos_ids, ours.context_length)
    conversation = [Message("system", "Be kind."), Message("user", "Hi 👋"), Message("assistant", "Hello!")]
    assert back.encode_chat(conversation) == ours.encode_chat(conversation)


def test_a_second_end_of_an_answer_is_named(tiny_model: Path, tmp_path: Path) -> None:
    folder = changed(
        tiny_model, tmp_path / "m", "generation_config.json", lambda value: value.update(eos_token_id=[0, 2])
    )
    fields = read_vocabulary(folder, 512).fields
    assert (fields["eos_token_id"], fields["eot_token_id"], fields["bos_token_id"]) == (2, 0, 1)
    with LlamaCpp(write(folder, tmp_path / "out.gguf", "gguf-q8_0")) as llama:
        assert [number for number in range(512) if llama.fact("is_eog", number)] == [0, 2]


def _model(**change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda described: described["model"].update(change)


def _set(**change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda described: described.update(change)


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_model(type="Unigram"), "has a Unigram tokenizer"),
        (_model(end_of_word_suffix="</w>"), "options that llama.cpp lacks"),
        (_model(ignore_merges=True), "no name for"),
        (_set(pre_tokenizer={"type": "Whitespace"}), "no name for"),
        (_set(pre_tokenizer=None), "no name for"),
        (_set(pre_tokenizer={**BYTE_LEVEL, "use_regex": True, "add_prefix_space": True}), "no name for"),
        (_set(normalizer={"type": "Lowercase"}), "no name for"),
        (_set(normalizer={"type": "NFC"}), "no name for"),
        (
            _set(
                pre_tokenizer={
                    "type": "Sequence",
                    "pretokenizers": [
                        {"type": "Split", "pattern": {"Regex": r"\p{N}{1,2}"}, "behavior": "Isolated", "invert": False},
                        BYTE_LEVEL,
                    ],
                }
            ),
            "no name for",
        ),
        (_model(byte_fallback=True), "SentencePiece reading lacks"),
    ],
)
def test_a_tokenizer_that_llama_cpp_would_read_differently_is_refused(
    tiny_model: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    folder = changed(tiny_model, tmp_path / "model", "tokenizer.json", change)
    with pytest.raises(ModelError, match=said):
        read_vocabulary(folder, 512)


def test_fewer_embeddings_than_tokens_are_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="has 500 embeddings, but its tokenizer has a token 511"):
        read_vocabulary(tiny_model, 500)
    assert read_vocabulary(tiny_model, 514).tokens[-2:] == ["[PAD512]", "[PAD513]"]
