"""llama.cpp's C interface, called in the library that the package xllamacpp carries.

The layout of its parameters is checked against the defaults it hands out before any is changed: a library of another
layout is refused, not guessed at.
"""

import ctypes
import struct
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from vivace.errors import EngineError, ModelError

KNOWN_VERSION = "2026.10.11549"
_ROOM_BYTES = 512  # more than any of its parameter structs: one that is passed by value may be longer than is read
# Offsets in llama_context_params, and the defaults that stand there.
_CONTEXT = {
    "n_ctx": (0, "<I", 512),
    "n_batch": (4, "<I", 2048),
    "n_ubatch": (8, "<I", 512),
    "n_seq_max": (12, "<I", 1),
    "n_threads": (28, "<i", 4),
    "n_threads_batch": (32, "<i", 4),
    "rope_scaling_type": (40, "<i", -1),
    "pooling_type": (44, "<i", -1),
    "attention_type": (48, "<i", -1),
    "flash_attn_type": (52, "<i", -1),
    "yarn_ext_factor": (64, "<f", -1.0),
    "type_k": (104, "<i", 1),
    "type_v": (108, "<i", 1),
    "offload_kqv": (137, "<?", True),
    "kv_unified": (141, "<?", False),
}
_MODEL = {"n_gpu_layers": (16, "<i", -1), "vocab_only": (72, "<?", False), "use_extra_bufts": (74, "<?", True)}
_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_LOG_ERROR = 4


class Params(ctypes.Structure):
    """A parameter struct, as bytes."""

    _fields_ = (("content", ctypes.c_ubyte * _ROOM_BYTES),)


class Batch(ctypes.Structure):
    """llama_batch: tokens with their positions and sequences, and which of them give logits."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


_P, _I, _U, _B = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint32, ctypes.c_bool
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [_LOG, _P]),
    "llama_model_default_params": (Params, []),
    "llama_context_default_params": (Params, []),
    "llama_model_load_from_file": (_P, [ctypes.c_char_p, Params]),
    "llama_model_free": (None, [_P]),
    "llama_init_from_model": (_P, [_P, Params]),
    "llama_free": (None, [_P]),
    "llama_n_ctx": (_U, [_P]),
    "llama_n_ctx_seq": (_U, [_P]),
    "llama_n_batch": (_U, [_P]),
    "llama_n_ubatch": (_U, [_P]),
    "llama_n_seq_max": (_U, [_P]),
    "llama_n_threads": (_I, [_P]),
    "llama_n_threads_batch": (_I, [_P]),
    "llama_get_memory": (_P, [_P]),
    "llama_memory_clear": (None, [_P, _B]),
    "llama_memory_seq_rm": (_B, [_P, _I, _I, _I]),
    "llama_memory_seq_cp": (None, [_P, _I, _I, _I, _I]),
    "llama_batch_init": (Batch, [_I, _I, _I]),
    "llama_batch_free": (None, [Batch]),
    "llama_decode": (_I, [_P, Batch]),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), [_P, _I]),
    "llama_model_get_vocab": (_P, [_P]),
    "llama_vocab_n_tokens": (_I, [_P]),
    "llama_vocab_bos": (_I, [_P]),
    "llama_vocab_eos": (_I, [_P]),
    "llama_vocab_is_eog": (_B, [_P, _I]),
    "llama_vocab_get_add_bos": (_B, [_P]),
    "llama_tokenize": (_I, [_P, ctypes.c_char_p, _I, ctypes.POINTER(_I), _I, _B, _B]),
}
_QUANTIZERS: dict[str, tuple[Any, list[Any]]] = {
    "ggml_row_size": (ctypes.c_size_t, [ctypes.c_int, ctypes.c_int64]),
    "ggml_quantize_chunk": (
        ctypes.c_size_t,
        [ctypes.c_int, _P, _P, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, _P],
    ),
}


class Library:
    """The functions of the library, declared; what it complains of is kept as `complaint`."""

    def __init__(self) -> None:
        if find_spec("xllamacpp") is None:
            raise EngineError("llama.cpp needs xllamacpp, which is not installed.", _install())
        found = find_spec("xllamacpp.xllamacpp")
        if found is None or found.origin is None:
            raise EngineError("The package xllamacpp holds no library.", _install())
        self.version = version("xllamacpp")
        self._library = ctypes.CDLL(found.origin)
        self.complaint = ""
        self._log = _LOG(self._hear)

    def quantizers(self) -> Any:
        """Return the library with its quantizers declared."""
        self._declare(_QUANTIZERS)
        return self._library

    def inference(self) -> Any:
        """Return the library with what runs a model declared, its parameters' layout checked, its log silent."""
        self._declare(_FUNCTIONS)
        self._check("llama_context_params", self._library.llama_context_default_params(), _CONTEXT)
        self._check("llama_model_params", self._library.llama_model_default_params(), _MODEL)
        self._library.llama_log_set(self._log, None)
        self._library.llama_backend_init()
        return self._library

    def model_params(self, *, vocab_only: bool = False) -> Params:
        """Return parameters to load a model with."""
        return _changed(self._library.llama_model_default_params(), _MODEL, {"vocab_only": vocab_only})

    def context_params(self, **changes: float | bool) -> Params:
        """Return parameters of a context, defaults but for `changes`."""
        return _changed(self._library.llama_context_default_params(), _CONTEXT, changes)

    def _declare(self, functions: dict[str, tuple[Any, list[Any]]]) -> None:
        for name, (result, arguments) in functions.items():
            try:
                function = getattr(self._library, name)
            except AttributeError as error:
                raise EngineError(f"xllamacpp {self.version} has no {name}.", _install()) from error
            function.restype, function.argtypes = result, arguments

    def _check(self, name: str, params: Params, layout: dict[str, tuple[int, str, Any]]) -> None:
        content = bytes(params.content)
        for field, (offset, form, expected) in layout.items():
            # A boolean is read as a byte: any other number there is no boolean.
            found = struct.unpack_from("<B" if form == "<?" else form, content, offset)[0]
            if found != expected:
                raise EngineError(
                    f"xllamacpp {self.version} lays out {name} differently: {field} is {found}, not {expected}.",
                    _install(),
                )

    def _hear(self, level: int, text: bytes | None, _data: int | None) -> None:
        if level == _LOG_ERROR and text:
            self.complaint = text.decode("utf-8", "replace").strip()


@cache
def open_library() -> Library:
    """Return the library; raises `EngineError` when it is not installed or not as it is known."""
    return Library()


def open_model(library: Library, path: str, *, vocab_only: bool = False) -> int:
    """Load a GGUF file; raises `ModelError` with the library's reason when it does not open."""
    functions = library.inference()
    library.complaint = ""
    handle = functions.llama_model_load_from_file(path.encode(), library.model_params(vocab_only=vocab_only))
    if not handle:
        reason = library.complaint.split(": ", 1)[-1].rstrip(".") or "no reason given"
        raise ModelError(f"llama.cpp does not open {path}: {reason}.", "Export it again with `vivace compress`.")
    return int(handle)


def _changed(params: Params, layout: dict[str, tuple[int, str, Any]], changes: dict[str, Any]) -> Params:
    for name, value in changes.items():
        offset, form, _ = layout[name]
        struct.pack_into(form, params.content, offset, value)
    return params


def _install() -> str:
    return f"Install it with: pip install --no-deps xllamacpp=={KNOWN_VERSION}"
