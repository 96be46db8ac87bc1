"""GGUF headers are read whole or refused."""

from pathlib import Path

import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models.gguf_files import write_gguf
from vivace.errors import ModelError
from vivace.models.gguf_file import read_header


def test_the_header_is_what_the_gguf_package_reads(tiny_model: Path, tmp_path: Path) -> None:
    path = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    reader, header = GGUFReader(path), read_header(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert header.metadata == fields
    expected = [
        (t.name, tuple(int(n) for n in t.shape[::-1]), int(t.tensor_type), int(t.data_offset)) for t in reader.tensors
    ]
    assert [(t.name, t.shape, t.type, t.offset) for t in header.tensors] == expected
    assert header.weights == "fp32"
    assert header.setting("context_length") == 1024


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 4000), flip=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_damaged_header_gives_a_sentence(tiny_model: Path, tmp_path: Path, cut: int, flip: int, value: int) -> None:
    path = tmp_path / "tiny.gguf"
    if not path.exists():
        write_gguf(tiny_model, path)
    data = bytearray(path.read_bytes()[: 5000 - cut])
    data[flip % len(data)] = value
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    with pytest.raises(ModelError):
        read_header(damaged)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGML" + b"\0" * 100, b"GGUF\x01\0\0\0" + b"\0" * 16])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ModelError, match="not a readable GGUF"):
        read_header(tmp_path / "x.gguf")
