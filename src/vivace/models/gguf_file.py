"""Read the header of a GGUF file: its metadata and where its tensors lie (GGUF specification, versions 2 and 3)."""

import mmap
import struct
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.errors import ModelError

MAGIC = b"GGUF"
MAX_COUNT = 10_000_000
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# `general.file_type`, as llama.cpp numbers them.
_WEIGHTS = {
    0: "fp32", 1: "fp16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "bf16",
}  # fmt: skip


class GgufTensor(Struct, frozen=True):
    """A tensor: `shape` begins with the rows, `type` is the number of its GGML type, `offset` is in the file."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        product = 1
        for size in self.shape:
            product *= size
        return product


class GgufHeader(Struct, frozen=True):
    """Everything a GGUF file says about itself."""

    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]

    @property
    def architecture(self) -> str:
        """The architecture, in llama.cpp's words."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def weights(self) -> str:
        """The kind of most weights, such as Q4_1."""
        return _WEIGHTS.get(self.metadata.get("general.file_type", -1), "gguf")

    def setting(self, key: str) -> Any:
        """Return an architecture's setting such as `context_length`, None when the file does not say."""
        return self.metadata.get(f"{self.architecture}.{key}")


def read_header(path: Path) -> GgufHeader:
    """Return the header of `path`; raises `ModelError` when it is not a whole GGUF header."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return _Cursor(view).header()
    except (struct.error, ValueError, IndexError) as error:
        raise ModelError(f"{path} is not a readable GGUF file: {error}.") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error


class _Cursor:
    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._at = 0

    def header(self) -> GgufHeader:
        if self._take(4) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version = self._scalar("<I")
        if version not in (2, 3):
            raise ValueError(f"version {version} is not 2 or 3")
        tensor_count, metadata_count = self._count(), self._count()
        metadata = {}
        for _ in range(metadata_count):
            key = self._text()
            metadata[key] = self._value(self._scalar("<I"))
        tensors = [self._tensor() for _ in range(tensor_count)]
        alignment = int(metadata.get("general.alignment", 32))
        start = -(-self._at // alignment) * alignment
        placed = tuple(GgufTensor(name, shape, kind, start + at) for name, shape, kind, at in tensors)
        return GgufHeader(metadata, placed)

    def _tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        dimensions = self._scalar("<I")
        if dimensions > 8:
            raise ValueError(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(self._count(limit=1 << 40) for _ in range(dimensions))
        return name, shape[::-1], self._scalar("<I"), self._scalar("<Q")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            if kind not in _SCALARS:
                raise ValueError(f"unknown value type {kind}")
            return self._scalar(_SCALARS[kind])
        inner, count = self._scalar("<I"), self._count()
        if inner in _SCALARS:
            code = _SCALARS[inner][1]
            return list(struct.unpack(f"<{count}{code}", self._take(count * struct.calcsize(f"<{code}"))))
        if inner == _STRING:
            return [self._text() for _ in range(count)]
        raise ValueError(f"unknown array type {inner}")

    def _scalar(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _count(self, limit: int = MAX_COUNT) -> int:
        count = int(self._scalar("<Q"))
        if count > limit:
            raise ValueError(f"a count of {count} is beyond reason")
        return count

    def _text(self) -> str:
        # Not every tool writes valid UTF-8 into vocabularies; a replaced character is visible, a crash is not.
        return self._take(int(self._scalar("<Q"))).decode("utf-8", "replace")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._view):
            raise ValueError("it ends in the middle of its header")
        data = self._view[self._at : end]
        self._at = end
        return data
