"""What tokenizers make of a dataset."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.data.material import chat, distinct, write_rows
from vivace.data.tokens.counting import TokenCounter
from vivace.data.tokens.sample import Sample
from vivace.data.tokens.statistics import token_statistics
from vivace.data.tokens.trimming import Ranking, trim_statistics, trimmed_tokenizer
from vivace.errors import DataError, ModelError
from vivace.models import ChatTokenizer
from vivace.store.rows import read_examples

SPLITS = ("train", "train", "train", "validation", "test")


def write_dataset(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a dataset folder with the rows dealt to the splits in turn."""
    told = [{"split": SPLITS[place % 5], "id": f"a:{place}", **row} for place, row in enumerate(rows)]
    write_rows(folder / "examples.jsonl", told)
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [{**distinct(number), "metadata": {"language": "en"}} for number in range(40)]
    rows.append({**chat("Où est mon café ☕?", "Votre café arrive."), "metadata": {"language": "fr"}})
    return write_dataset(tmp_path / "dataset", rows)


def test_conversations_cost_what_the_chat_tokenizer_says(dataset: Path, tiny_model: Path) -> None:
    told = token_statistics(dataset, {"tiny": tiny_model})["tokenizers"]["tiny"]
    tokenizer = ChatTokenizer.open(tiny_model)
    examples = list(read_examples(dataset / "examples.jsonl"))
    sizes = [len(tokenizer.encode_chat(row.messages, add_generation_prompt=False)) for row in examples]
    assert told["conversations"]["all"]["total"] == sum(sizes)
    assert told["conversations"]["all"]["max"] == max(sizes)
    assert sum(told["conversations"][split]["count"] for split in ("train", "validation", "test")) == len(examples)
    answers = [len(tokenizer.encode(row.reference)) for row in examples]
    assert told["answers"]["all"]["total"] == sum(answers)


def test_fertility_is_told_by_role_and_language(dataset: Path, tiny_model: Path) -> None:
    told = token_statistics(dataset, {"tiny": tiny_model})["tokenizers"]["tiny"]
    assert set(told["fertility"]["role"]) == {"user", "assistant"}
    french = told["fertility"]["language"]["fr"]
    assert french["words"] == 8
    assert french["tokens_per_word"] == round(french["tokens"] / 8, 4)
    assert french["characters_per_token"] < told["fertility"]["language"]["en"]["characters_per_token"]
    assert 0 < told["byte_share"] < 0.05, "only ☕, ù and é are bytes without a token of their own"


def test_the_words_that_cost_most_come_first(tmp_path: Path, tiny_model: Path) -> None:
    rows = [chat("Zyxwvut my order", "My order zyxwvut, zyxwvut")] * 3
    told = token_statistics(write_dataset(tmp_path, rows), {"tiny": tiny_model})["tokenizers"]["tiny"]
    first = told["expensive_words"][0]
    assert (first["word"], first["occurrences"]) == ("zyxwvut", 6)
    assert "".join(first["pieces"]) == " zyxwvut"
    assert first["tokens"] == 6 * len(first["pieces"])
    one = next(item for item in told["expensive_words"] if item["word"] == "Zyxwvut")
    assert (one["occurrences"], "".join(one["pieces"])) == (3, "Zyxwvut")
    assert all(item["word"] != "order" for item in told["expensive_words"])


def test_what_the_limits_would_cut_is_counted_and_listed(tmp_path: Path, tiny_model: Path) -> None:
    long = chat("Where is my order? " * 200, "On its way.")
    dataset = write_dataset(tmp_path, [distinct(1), long, distinct(2)])
    told = token_statistics(dataset, {"tiny": tiny_model}, max_length=5)["tokenizers"]["tiny"]
    context, training = told["limits"]["context_length"], told["limits"]["max_length"]
    assert context["conversations_cut"] == 1
    assert context["longest"][0]["id"] == "a:1"
    assert context["tokens_cut"] == context["longest"][0]["tokens"] - 1024
    assert training["conversations_cut"] == 3
    assert training["tokens_cut"] == told["conversations"]["all"]["total"] - 15


def test_a_large_dataset_is_sampled_by_its_seed_and_says_so(dataset: Path, tiny_model: Path) -> None:
    one, same, other = (token_statistics(dataset, {"tiny": tiny_model}, max_rows=10, seed=seed) for seed in (0, 0, 1))
    assert (one["conversations"], one["sampled"]) == (41, 10)
    assert one == same
    assert one != other


def test_several_tokenizers_stand_side_by_side_on_the_same_text(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "tokenizer.json").write_bytes((tiny_model / "tokenizer.json").read_bytes())
    told = token_statistics(dataset, {"tiny": tiny_model, "bare": bare})["tokenizers"]
    assert list(told) == ["tiny", "bare"]
    assert told["tiny"]["fertility"] == told["bare"]["fertility"]
    assert "context_length" not in told["bare"]["limits"]
    json.dumps(told)


def test_a_folder_without_tokenizer_or_dataset_is_one_sentence(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(ModelError, match="tokenizer"):
        token_statistics(dataset, {"x": tmp_path / "nothing"})
    with pytest.raises(DataError, match="no dataset"):
        Sample.draw(tmp_path / "nothing")


def test_coverage_grows_with_the_vocabulary_to_everything(dataset: Path, tiny_model: Path) -> None:
    told = trim_statistics(dataset, tiny_model, vocab_size=300)
    shares = [point["share_of_occurrences"] for point in told["curve"]]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [point["vocab_size"] for point in told["curve"]] == [300, 512]
    assert told["curve"][0]["bytes_saved"] == (512 - 300) * 64 * 2
    assert told["trimmed"]["words_lost"] == 0, "bytes write every word"
    first = told["trimmed"]["resplit"][0]
    assert "".join(first["before"]) == "".join(first["after"])
    assert "".join(first["after"]).strip() == first["word"]
    assert len(first["after"]) > len(first["before"])


def test_a_trimmed_vocabulary_writes_what_it_kept_as_before(dataset: Path, tiny_model: Path) -> None:
    """Nothing changes for texts whose tokens all stay: BPE parents stay with their children."""
    counter = TokenCounter.open(tiny_model)
    texts = [message.content for row in read_examples(dataset / "examples.jsonl") for message in row.messages]
    encoded = counter.encode(texts)
    import numpy as np

    occurrences = np.bincount(np.concatenate([np.array(ids) for ids in encoded]), minlength=counter.vocab_size)
    for size in (280, 330, 400):
        kept = Ranking(counter.definition, occurrences).keep(size)
        assert len(kept) == size
        smaller = TokenCounter(trimmed_tokenizer(counter.definition, kept))
        whole = 0
        for ids, fewer in zip(encoded, smaller.encode(texts), strict=True):
            if set(ids) <= kept:
                whole += 1
                assert smaller.pieces(fewer) == counter.pieces(ids)
    assert whole > 0


def test_words_that_a_trimmed_wordpiece_vocabulary_cannot_write_are_listed(tmp_path: Path) -> None:
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace

    pieces = ["[UNK]", "kettle", "tea", "##pot", "a", "##z"]
    tokenizer = Tokenizer(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    dataset = write_dataset(tmp_path, [chat("kettle kettle teapot", "kettle teapot az")])
    told = trim_statistics(dataset, tmp_path, vocab_size=4)["trimmed"]
    assert told["words_lost"] == 1
    assert told["lost"] == [{"word": "teapot", "occurrences": 2, "before": ["tea", "##pot"], "after": ["[UNK]"]}]
