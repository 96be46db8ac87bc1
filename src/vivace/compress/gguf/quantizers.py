"""llama.cpp's own quantizers, out of the library that the package xllamacpp carries."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from vivace.compress.gguf.recipes import GgmlType
from vivace.engines.llamacpp_library import open_library
from vivace.errors import ModelError

Weights = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_CHUNK_WEIGHTS = 1 << 20


class Quantizer:
    """Turns rows of fp32 weights into the bytes of a GGML type; rows are shared out among `threads`."""

    def __init__(self, threads: int) -> None:
        self._library = open_library().quantizers()
        self._threads = threads

    def row_bytes(self, kind: GgmlType, columns: int) -> int:
        """Return the bytes of one row."""
        return int(self._library.ggml_row_size(int(kind), columns))

    def quantize(self, name: str, values: Weights, kind: GgmlType, importance: Weights | None = None) -> Bytes:
        """Return `values` [rows, columns] as [rows, bytes]; `importance` [columns] says which columns matter more.

        Each row is quantized by itself, so the bytes do not depend on the threads. Raises `ModelError` for numbers that
        the type cannot hold.
        """
        if not np.isfinite(values).all():
            raise ModelError(f"The tensor {name} holds numbers that are not finite.", "Train or download it again.")
        flat = np.ascontiguousarray(values, np.float32)
        if kind is GgmlType.F16:
            return _halved(name, flat)
        if kind is GgmlType.F32:
            return flat.view(np.uint8).reshape(*flat.shape[:-1], -1)
        rows, columns = flat.shape
        out = np.zeros((rows, self.row_bytes(kind, columns)), np.uint8)
        weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
        step = max(1, _CHUNK_WEIGHTS // columns)

        def quantize_from(first: int) -> None:
            count = min(step, rows - first)
            self._library.ggml_quantize_chunk(
                int(kind),
                flat[first:].ctypes.data_as(ctypes.c_void_p),
                out[first:].ctypes.data_as(ctypes.c_void_p),
                0,
                count,
                columns,
                None if weights is None else weights.ctypes.data_as(ctypes.c_void_p),
            )

        # ctypes gives up Python's lock during the call.
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(quantize_from, range(0, rows, step)))
        return out


def _halved(name: str, values: Weights) -> Bytes:
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ModelError(
            f"The tensor {name} holds {np.abs(values).max():g}, more than fp16 can.", "Export it as gguf-q8_0 instead."
        )
    return halves.view(np.uint8).reshape(*values.shape[:-1], -1)
