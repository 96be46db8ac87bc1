"""Copy safetensors files with fewer rows in some tensors: bytes as they are, whatever their type."""

import json
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from msgspec import Struct

from vivace.errors import ModelError
from vivace.models.tokenizer import read_json
from vivace.store.files import disk_errors, write_atomic

INDEX = "model.safetensors.index.json"
_BLOCK_BYTES = 1 << 24
_ALIGNMENT = 8


class Tensor(Struct, frozen=True):
    """Where a tensor lies in its file; `start` and `end` count from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model in their order: those of its index, or the one there is."""
    index = read_json(folder / INDEX)
    if index:
        return [folder / name for name in sorted({str(name) for name in index["weight_map"].values()})]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    return sorted(folder.glob("*.safetensors"))


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file in the order of their bytes."""
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        begin = 8 + size
        found = {
            name: Tensor(told["dtype"], tuple(told["shape"]), *(begin + offset for offset in told["data_offsets"]))
            for name, told in header.items()
            if name != "__metadata__"
        }
        if any(tensor.end > path.stat().st_size for tensor in found.values()):
            raise ValueError("it ends too early")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelError(f"{path} is not a whole safetensors file: {error}.", "Download or make it again.") from error
    return dict(sorted(found.items(), key=lambda item: item[1].start))


def copy_rows(source: Path, out: Path, chosen: Mapping[str, Sequence[int]]) -> None:
    """Copy a safetensors file; of each tensor in `chosen` only those rows (first dimension), in that order.

    One block is in memory at a time.
    """
    tensors = tensors_of(source)
    sizes = {
        name: (tensor.end - tensor.start) // tensor.shape[0] * len(chosen[name])
        if name in chosen
        else tensor.end - tensor.start
        for name, tensor in tensors.items()
    }
    with disk_errors(out), open(source, "rb") as read, open(out, "wb") as write:
        write.write(_header(_metadata(read), tensors, sizes, chosen))
        with mmap.mmap(read.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            for name, tensor in tensors.items():
                for block in _blocks(memory, tensor, chosen.get(name)):
                    write.write(block)
    out.chmod(0o644)


def copy_weights(source: Path, out: Path, chosen: Mapping[str, Sequence[int]]) -> None:
    """Copy all weights of a model folder, sharded or not, with fewer rows in the tensors of `chosen`."""
    files = weight_files(source)
    for path in files:
        copy_rows(path, out / path.name, {name: rows for name, rows in chosen.items() if name in tensors_of(path)})
    index = read_json(source / INDEX)
    if index:
        written = [tensor for path in files for tensor in tensors_of(out / path.name).values()]
        size = sum(tensor.end - tensor.start for tensor in written)
        index["metadata"] = dict(index.get("metadata") or {}) | {"total_size": size}
        write_atomic(out / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")


def _header(
    metadata: Any, tensors: Mapping[str, Tensor], sizes: Mapping[str, int], chosen: Mapping[str, Sequence[int]]
) -> bytes:
    told: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    offset = 0
    for name, tensor in tensors.items():
        shape = [len(chosen[name]), *tensor.shape[1:]] if name in chosen else list(tensor.shape)
        told[name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": [offset, offset + sizes[name]]}
        offset += sizes[name]
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _metadata(file: BinaryIO) -> Any:
    (size,) = struct.unpack("<Q", file.read(8))
    return json.loads(file.read(size)).get("__metadata__")


def _blocks(memory: mmap.mmap, tensor: Tensor, rows: Sequence[int] | None) -> Iterator[bytes]:
    if rows is None:
        for start in range(tensor.start, tensor.end, _BLOCK_BYTES):
            yield memory[start : min(start + _BLOCK_BYTES, tensor.end)]
        return
    row_bytes = (tensor.end - tensor.start) // tensor.shape[0]
    step = max(1, _BLOCK_BYTES // row_bytes)
    for first in range(0, len(rows), step):
        yield b"".join(
            memory[tensor.start + row * row_bytes : tensor.start + (row + 1) * row_bytes]
            for row in np.asarray(rows[first : first + step]).tolist()
        )
