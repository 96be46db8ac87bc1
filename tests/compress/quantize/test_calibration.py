"""What a quantizer looks at is what was asked for, or one sentence says why it cannot be."""

from pathlib import Path

import pytest

from vivace.compress.calibration import SHORTEST, read_calibration
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Example, Message
from vivace.errors import ConfigError, DataError
from vivace.models import ChatTokenizer
from vivace.store import write_examples

SYSTEM = "You answer."


def _example(number: int, split: str) -> Example:
    turns = (Message("user", f"What is question number {number}?"), Message("assistant", f"It is {split} {number}."))
    return Example(f"{split}{number}", turns, split=split)  # type: ignore[arg-type]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir()
    examples = [_example(number, split) for split in ("train", "validation", "test") for number in range(12)]
    write_examples(folder / "examples.jsonl", examples)
    return folder


def test_the_domain_is_train_conversations_as_they_are_served(dataset: Path, tiny_model: Path) -> None:
    tokenizer = ChatTokenizer.open(tiny_model)
    found = read_calibration(dataset, tiny_model, QuantizeSettings(examples=5), SYSTEM, 256, dataset)
    assert found is not None
    assert (found.source, len(found.rows), found.tokens) == ("domain", 5, sum(map(len, found.rows)))
    served = {
        tuple(
            tokenizer.encode_chat(
                [Message("system", SYSTEM), *_example(number, "train").messages], add_generation_prompt=False
            )
        )
        for number in range(12)
    }
    assert set(found.rows) <= served
    assert found == read_calibration(dataset, tiny_model, QuantizeSettings(examples=5), SYSTEM, 256, dataset)
    others = read_calibration(dataset, tiny_model, QuantizeSettings(examples=5, seed=1), SYSTEM, 256, dataset)
    assert others is not None
    assert set(others.rows) != set(found.rows)


def test_nothing_is_looked_at_when_nothing_shall_be(dataset: Path, tiny_model: Path) -> None:
    assert read_calibration(dataset, tiny_model, QuantizeSettings(calibration="none"), SYSTEM, 256, dataset) is None


def test_a_files_paragraphs_are_cut_to_the_context(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    long = "the harbor was quiet in the early morning and the boats lay still against the wall"
    (tmp_path / "general.txt").write_text(f"{long}\n{long}\n\nno\n\n\n\n{long}\n")
    settings = QuantizeSettings(calibration="file:general.txt")
    found = read_calibration(dataset, tiny_model, settings, SYSTEM, 20, tmp_path)
    assert found is not None
    assert found.source == "general.txt"
    whole = [tuple(ChatTokenizer.open(tiny_model).encode(text)) for text in (f"{long}\n{long}", long)]
    assert found.rows == tuple(ids[:20] for ids in whole)  # the paragraph of one word is too short


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, ConfigError, "cannot be read as text"),
        (b"\x89PNG\xff\xfe\x00" * 50, ConfigError, "cannot be read as text"),
        (b"", DataError, f"has no paragraph of {SHORTEST} tokens"),
        (b"a\n\nb\n", DataError, f"has no paragraph of {SHORTEST} tokens"),
    ],
    ids=["missing", "binary", "empty", "short"],
)
def test_a_file_without_texts_is_one_sentence(
    dataset: Path, tiny_model: Path, tmp_path: Path, content: bytes | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / "general.txt"
    if content is not None:
        path.write_bytes(content)
    settings = QuantizeSettings(calibration="file:general.txt")
    with pytest.raises(error, match=message) as failure:
        read_calibration(dataset, tiny_model, settings, SYSTEM, 256, tmp_path)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_folder_is_no_file_of_texts(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    with pytest.raises(ConfigError, match="cannot be read as text"):
        read_calibration(dataset, tiny_model, QuantizeSettings(calibration="file:texts"), SYSTEM, 256, tmp_path)


def test_a_dataset_without_train_conversations_is_one_sentence(tiny_model: Path, tmp_path: Path) -> None:
    write_examples(tmp_path / "examples.jsonl", [_example(1, "test")])
    with pytest.raises(DataError, match="no train conversation to calibrate on"):
        read_calibration(tmp_path, tiny_model, QuantizeSettings(), SYSTEM, 256, tmp_path)
