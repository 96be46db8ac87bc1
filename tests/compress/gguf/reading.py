"""What llama.cpp makes of a GGUF file: its logits and its tokens; and small models to write such files from."""

import ctypes
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from vivace.compress.calibration import Calibration
from vivace.compress.gguf import file, recipes
from vivace.compress.gguf.recipes import GgmlType
from vivace.engines.llamacpp_library import open_library, open_model

Floats = npt.NDArray[np.float32]
SMALL = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip


class LlamaCpp:
    """A GGUF file opened by llama.cpp with one thread; `exact` keeps its cache in fp32."""

    def __init__(self, path: Path, *, exact: bool = False, length: int = 512) -> None:
        library = open_library()
        self._lib = library.inference()
        self._model = open_model(library, str(path))
        cache = {"type_k": 0, "type_v": 0, "flash_attn_type": 0} if exact else {}
        wanted = {"n_ctx": length, "n_batch": length, "n_ubatch": length, "n_threads": 1, "n_threads_batch": 1}
        self._context = self._lib.llama_init_from_model(self._model, library.context_params(**wanted, **cache))
        assert self._context
        self._vocab = self._lib.llama_model_get_vocab(self._model)
        self.size = self._lib.llama_vocab_n_tokens(self._vocab)
        self._batch = self._lib.llama_batch_init(length, 0, 1)

    def close(self) -> None:
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    def __enter__(self) -> "LlamaCpp":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def logits(self, ids: Sequence[int]) -> Floats:
        """Return the logits [tokens, vocabulary] of one prompt."""
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), True)
        self._batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            self._batch.token[index], self._batch.pos[index] = int(token), index
            self._batch.n_seq_id[index], self._batch.logits[index] = 1, 1
            self._batch.seq_id[index][0] = 0
        assert self._lib.llama_decode(self._context, self._batch) == 0
        rows = [self._lib.llama_get_logits_ith(self._context, index) for index in range(len(ids))]
        return np.stack([np.ctypeslib.as_array(row, (self.size,)).copy() for row in rows])

    def tokens(self, text: str, *, add_special: bool = False) -> list[int]:
        """Return llama.cpp's own ids of `text`, special tokens written in it read as such."""
        data = text.encode()
        room = len(data) + 16
        buffer = (ctypes.c_int32 * room)()
        count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, add_special, True)
        assert count >= 0
        return list(buffer[:count])

    def fact(self, name: str, *arguments: Any) -> int:
        """Return what llama.cpp says of its vocabulary, such as its `bos`."""
        return int(getattr(self._lib, f"llama_vocab_{name}")(self._vocab, *arguments))


def write(folder: Path, out: Path, kind: str, rows: Sequence[Sequence[int]] = ()) -> Path:
    """Write `folder` as one GGUF file in this process."""
    calibration = Calibration(tuple(tuple(row) for row in rows), "domain") if rows else None
    file.write_file(file.Order(folder, out, "Tiny", "Apache-2.0", kind, calibration), lambda **_: None)
    return out


def with_exact_recipe(monkeypatch: Any) -> str:
    """Add a recipe that keeps fp32, so that nothing but the layout can differ."""
    exact = replace(recipes.RECIPES["gguf-f16"], name="F32", file_type=0, usual=GgmlType.F32, better=GgmlType.F32)
    monkeypatch.setitem(recipes.RECIPES, "gguf-f32", exact)
    return "gguf-f32"


def small_model(tiny: Path, out: Path, architecture: str, **change: Any) -> Path:
    """Save a random model of `architecture` with the tiny model's tokenizer into `out`."""
    import torch
    import transformers

    torch.manual_seed(5)
    family = getattr(transformers, architecture)
    model = family(family.config_class(**{**SMALL, **change}, architectures=[architecture])).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.3)
            else:
                parameter.mul_(6)  # fresh weights hardly tell positions apart
    model.save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        shutil.copy(tiny / name, out / name)
    return out


def changed(folder: Path, out: Path, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy a model folder with its JSON file `name` changed."""
    shutil.copytree(folder, out)
    value = json.loads((out / name).read_text())
    change(value)
    (out / name).write_text(json.dumps(value))
    return out
