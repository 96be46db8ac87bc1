"""A tokenizer learned from a dataset's own text."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.data.material import chat, distinct
from tests.data.test_tokens import write_dataset
from tests.tiny import LINES, SPECIALS
from vivace.data.tokens.training import ALGORITHMS, learn, train_tokenizer
from vivace.errors import ConfigError, DataError


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [distinct(number) for number in range(60)]
    rows += [chat("Is the Mola grinder back?", "The Mola grinder is back on Monday.")] * 10
    return write_dataset(tmp_path / "dataset", rows)


@cache
def learned(algorithm: str) -> Tokenizer:
    return learn(LINES, algorithm, 400, SPECIALS)  # type: ignore[arg-type]


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_every_text_comes_back_from_byte_level_pairs(text: str) -> None:
    tokenizer = learned("bpe")
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@given(st.text(st.characters(codec="utf-8"), max_size=60))
@example("<0x41> \u2603")
def test_every_text_comes_back_from_unigrams_but_for_their_sign_for_a_space(text: str) -> None:
    tokenizer = learned("unigram")
    back = tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False)
    assert back == text.replace("\u2581", " ")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_opens_like_any_tokenizer_and_keeps_the_bases_special_tokens(
    algorithm: str, dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / algorithm
    told = train_tokenizer(dataset, tiny_model, out, algorithm=algorithm, vocab_size=600)  # type: ignore[arg-type]
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert told["special_tokens"] == SPECIALS
    assert told["vocab_size"] == tokenizer.get_vocab_size() <= 600
    rendered = "<|im_start|>user\nIs the grinder back?<|im_end|>\n"
    tokens = tokenizer.encode(rendered).tokens
    assert tokens[0] == "<|im_start|>"
    assert tokens.count("<|im_end|>") == 1
    assert (out / "chat_template.jinja").read_bytes() == (tiny_model / "chat_template.jinja").read_bytes()
    config = json.loads((out / "tokenizer_config.json").read_text())
    assert config["eos_token"] == "<|im_end|>"
    assert tokenizer.token_to_id(config["unk_token"]) is not None


def test_on_held_out_text_it_needs_fewer_tokens_than_the_base(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    held_out = train_tokenizer(dataset, tiny_model, tmp_path / "own", vocab_size=1000)["held_out"]
    assert held_out["split"] == "test"
    assert held_out["base"]["words"] == held_out["own"]["words"] > 0
    assert held_out["own"]["tokens_per_word"] < held_out["base"]["tokens_per_word"]
    saved = 1 - held_out["own"]["tokens"] / held_out["base"]["tokens"]
    assert held_out["share_of_tokens_saved"] == pytest.approx(saved, abs=1e-4)


def test_held_out_text_is_not_learned_from(tmp_path: Path, tiny_model: Path) -> None:
    rows = [{**distinct(number), "split": "train"} for number in range(9)]
    rows.append({**chat("qwfpgjluy " * 50, "qwfpgjluy"), "split": "test"})
    train_tokenizer(write_dataset(tmp_path, rows), tiny_model, tmp_path / "own", vocab_size=1000)
    assert "Ġqwfpgjluy" not in Tokenizer.from_file(str(tmp_path / "own" / "tokenizer.json")).get_vocab()


def test_the_same_text_gives_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib; from tests.tiny import LINES, SPECIALS; from vivace.data.tokens.training import *;"
        "told = [learn(LINES * 3, name, 420, SPECIALS).to_str() for name in ALGORITHMS];"
        "print([hashlib.sha256(text.encode()).hexdigest() for text in told])"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(runs) == 1


def test_wrong_wishes_are_one_sentence(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unigram"):
        train_tokenizer(dataset, tiny_model, tmp_path, algorithm="unigrm")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="too small"):
        train_tokenizer(dataset, tiny_model, tmp_path, vocab_size=10)
    empty = write_dataset(tmp_path / "only-test", [{**distinct(1), "split": "test"}])
    with pytest.raises(DataError, match="no training conversations"):
        train_tokenizer(empty, tiny_model, tmp_path)
