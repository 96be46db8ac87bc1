"""A trimmed model is the same model with fewer tokens."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.compress.numbers import torch_logits
from tests.compress.trim.vocabularies import KINDS, byte_level, change, model_with, shop_texts, whole_words
from tests.tiny import SPECIALS
from vivace.compress.trim import trim_vocabulary
from vivace.compress.trim.token_ids import ids_in, renumber
from vivace.compress.trim.vocabulary import Vocabulary
from vivace.domain import Message
from vivace.errors import DataError, ModelError
from vivace.models import ChatTokenizer, check_data_only, identify
from vivace.store.files import folder_digest

DOMAIN = shop_texts()[:12]


@pytest.fixture(autouse=True, scope="module")
def _fewer_random_texts() -> Iterator[None]:
    """The thousands of random texts have a test of their own (test_exactness)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vivace.compress.trim.trimming.RANDOM_TEXTS", 200)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, int]]:
    """A model of 1,200 tokens with 30 empty rows, the same trimmed, and old names with new ids."""
    root = tmp_path_factory.mktemp("trimmed")
    source = model_with(byte_level(), root / "source", extra_rows=30)
    trim_vocabulary(source, DOMAIN, root / "out", keep=500, held_out=shop_texts()[200:250])
    vocabulary = Vocabulary.open(source)
    kept = Vocabulary.open(root / "out").names
    return source, root / "out", {name: vocabulary.pieces[name] for name in kept.values()}


def _ids(source: Path, out: Path) -> tuple[list[int], list[int]]:
    """Old and new ids of what both have."""
    old, new = Vocabulary.open(source), Vocabulary.open(out)
    names = sorted(new.names.values())
    number = {name: n for n, name in old.names.items()}
    return [number[name] for name in names], [{v: k for k, v in new.names.items()}[name] for name in names]


def test_rows_of_kept_tokens_are_the_same_bits(folders: tuple[Path, Path, dict[str, int]]) -> None:
    source, out, _names = folders
    before, after = load_file(source / "model.safetensors"), load_file(out / "model.safetensors")
    old, new = _ids(source, out)
    key = "model.embed_tokens.weight"
    assert before.keys() == after.keys()
    np.testing.assert_array_equal(after[key][new], before[key][old])
    for name in before.keys() - {key}:
        np.testing.assert_array_equal(after[name], before[name])
    size = json.loads((out / "config.json").read_text())["vocab_size"]
    assert len(after[key]) == size == len(new)
    assert size % 64 == 0


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_kept_tokens_are_the_same_bits(tmp_path: Path, tied: bool) -> None:
    source = model_with(byte_level(), tmp_path / "source", tied=tied, extra_rows=7)
    facts = trim_vocabulary(source, DOMAIN, tmp_path / "out", keep=500)
    assert facts["tied"] is tied
    old, new = _ids(source, tmp_path / "out")
    number = dict(zip(old, new, strict=True))
    prompts = [list(Vocabulary.open(source).tokenizer.encode(text).ids) for text in DOMAIN]
    ours = torch_logits(tmp_path / "out", [[number[one] for one in ids] for ids in prompts])
    for before, after in zip(torch_logits(source, prompts), ours, strict=True):
        np.testing.assert_array_equal(after[:, new], before[:, old])
        assert after.shape[1] == len(new)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_model_with_any_kind_of_vocabulary_is_trimmed_and_opens_elsewhere(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, out = model_with(KINDS[kind](), tmp_path / "source"), tmp_path / "out"
    facts = trim_vocabulary(source, DOMAIN, out, keep=10, held_out=DOMAIN)
    assert facts["proof"] == {
        "domain_texts": len(DOMAIN) + 4,
        "identical_pieces": len(DOMAIN) + 4,
        "with_dropped_tokens": 0,
        "random_texts": 200,
    }
    assert facts["fertility"]["held_out"]["growth"] == 0
    assert facts["fertility"]["general"]["growth"] >= 0
    ours, theirs = ChatTokenizer.open(out), AutoTokenizer.from_pretrained(out)
    for text in (*DOMAIN, "Something else: 中文 ▁ <|im_end|>"):
        assert tuple(theirs(text, add_special_tokens=False).input_ids) == ours.encode(text)
    assert len(theirs) == facts["vocab_size_after"]
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.config.vocab_size == facts["vocab_size_after"]
    assert set(model.generation_config.eos_token_id) == {ours.token_id("<|im_end|>")}


def test_configuration_and_tokenizer_name_the_new_ids(tmp_path: Path) -> None:
    source = model_with(
        whole_words(), tmp_path / "source", extra_rows=9, nested={"mask_token_id": 40, "image_token_index": -1}
    )
    rows = json.loads((source / "config.json").read_text())["vocab_size"]
    change(source / "generation_config.json", eos_token_id=[2, 41], suppress_tokens=[42], bad_words_ids=[[43, 44]])
    change(source / "config.json", pad_token_id=rows - 1)  # a row without a token
    change(
        source / "tokenizer_config.json",
        added_tokens_decoder={str(n): {"content": token} for n, token in enumerate(SPECIALS)},
        tokenizer_class="GPT2Tokenizer",
    )
    (source / "vocab.json").write_text("{}")
    (source / "merges.txt").write_text("#version: 0.2\n")
    (source / "LICENSE").write_text("Apache-2.0\n")
    trim_vocabulary(source, DOMAIN, tmp_path / "out", keep=10)
    old, new = Vocabulary.open(source), Vocabulary.open(tmp_path / "out")
    number = {name: n for n, name in new.names.items()}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert config["nested"] == {"mask_token_id": number[old.names[40]], "image_token_index": -1}
    assert config["pad_token_id"] == config["vocab_size"] - 1
    assert config["vocab_size"] == len(new.names) + 1
    embeddings = [
        load_file(tmp_path / name / "model.safetensors")["model.embed_tokens.weight"] for name in ("source", "out")
    ]
    np.testing.assert_array_equal(embeddings[1][-1], embeddings[0][-1])
    assert set(generation["eos_token_id"]) == {number["<|im_end|>"], number[old.names[41]]}
    assert generation["suppress_tokens"] == [number[old.names[42]]]
    assert generation["bad_words_ids"] == [[number[old.names[43]], number[old.names[44]]]]
    told = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert told["added_tokens_decoder"] == {str(number[token]): {"content": token} for token in SPECIALS}
    assert told["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert json.loads((tmp_path / "out" / "vocab.json").read_text()) == new.pieces
    assert len((tmp_path / "out" / "merges.txt").read_text().splitlines()) == len(new.merges) + 1
    assert (tmp_path / "out" / "LICENSE").read_text() == "Apache-2.0\n"


def test_the_chat_template_is_as_it_was_and_prompts_are_the_same_text(
    folders: tuple[Path, Path, dict[str, int]],
) -> None:
    source, out, _names = folders
    assert (out / "chat_template.jinja").read_bytes() == (source / "chat_template.jinja").read_bytes()
    before, after = ChatTokenizer.open(source), ChatTokenizer.open(out)
    messages = [Message("system", "You help."), Message("user", DOMAIN[0])]
    assert after.render(messages) == before.render(messages)
    ids = after.encode_chat(messages)
    assert after.decode(ids) == before.decode(before.encode_chat(messages))
    assert len(ids) == len(before.encode_chat(messages))
    assert max(ids) < after.vocab_size
    assert {after.decode([number]) for number in after.eos_ids} == {""}
    assert after.eos_ids == {after.token_id("<|im_end|>")}


def test_figures_are_those_of_the_files(folders: tuple[Path, Path, dict[str, int]], tmp_path: Path) -> None:
    source, _out, _names = folders
    facts = trim_vocabulary(source, DOMAIN, tmp_path / "out", keep=500, held_out=shop_texts()[200:250])
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "out"))
    assert facts["weight_bytes_before"] == sum(value.nbytes for value in before.values())
    assert facts["weight_bytes_after"] == sum(value.nbytes for value in after.values())
    assert facts["parameters_after"] == sum(value.size for value in after.values())
    assert facts["bytes_saved"] == facts["tokens_dropped"] * 64 * 4
    assert facts["vocab_size_before"] == 1230
    assert facts["vocab_size_after"] == sum(facts["kept"][name] for name in ("must", "domain", "ancestors", "general"))
    held_out = facts["fertility"]["held_out"]
    assert held_out["after"]["tokens"] > held_out["before"]["tokens"] > held_out["texts"] == 50
    assert facts["head_ms_after"] > 0


def test_trimming_twice_makes_the_same_bytes(folders: tuple[Path, Path, dict[str, int]], tmp_path: Path) -> None:
    source, out, _names = folders
    trim_vocabulary(source, iter(DOMAIN), tmp_path / "again", keep=500)
    assert folder_digest(tmp_path / "again")[0] == folder_digest(out)[0]
    assert identify(out).format == "hf"
    check_data_only(out)
    for path in out.glob("*.json"):
        assert str(source.parent) not in path.read_text()


def test_a_vocabulary_that_is_kept_whole_stays_as_it_is(tmp_path: Path) -> None:
    source = model_with(byte_level(), tmp_path / "source")
    facts = trim_vocabulary(source, DOMAIN, tmp_path / "out", keep=1)
    assert facts["tokens_dropped"] == 0
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("source", "out"))
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert Vocabulary.open(source).pieces == Vocabulary.open(tmp_path / "out").pieces


def test_what_cannot_be_trimmed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = model_with(byte_level(), tmp_path / "source")
    with pytest.raises(DataError, match="no texts of the domain"):
        trim_vocabulary(source, [], tmp_path / "out")
    quantized = tmp_path / "quantized"
    shutil.copytree(source, quantized)
    change(quantized / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(ModelError, match="quantized already"):
        trim_vocabulary(quantized, DOMAIN, tmp_path / "out")
    short = tmp_path / "short"
    shutil.copytree(source, short)
    weights = load_file(short / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:-1]
    save_file(weights, short / "model.safetensors")
    with pytest.raises(ModelError, match=r"no embedding of 1,200 tokens"):
        trim_vocabulary(short, DOMAIN, tmp_path / "out")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="Merge it first"):
        trim_vocabulary(adapter, DOMAIN, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_only_ids_are_renumbered() -> None:
    config = {
        "eos_token_id": [1, 5],
        "hidden_size": 5,
        "inner": {"vocab_size": 9, "pad_token_id": None},
        "vocab_size": 9,
    }
    assert sorted(ids_in(config)) == [1, 5]
    assert renumber(config, {1: 0, 5: 1}, 9) == {
        "eos_token_id": [0, 1],
        "hidden_size": 5,
        "inner": {"vocab_size": 2, "pad_token_id": None},
        "vocab_size": 2,
    }
