"""Write one GGUF file; run as a program it does one export in its own process."""

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vivace.compress.calibration import Calibration
from vivace.compress.folder import read_config
from vivace.compress.gguf.layout import check_layout, gguf_name, in_order, rope_factors, settings
from vivace.compress.gguf.quantizers import Quantizer
from vivace.compress.gguf.recipes import RECIPES, GgmlType, Recipe, shares, tensor_type
from vivace.compress.gguf.vocabulary import Vocabulary, read_vocabulary
from vivace.engines import engine_threads
from vivace.errors import ModelError, VivaceError

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from vivace.compress.gguf.importance import Importance

Tell = Callable[..., None]
_QUANTIZATION_VERSION = 2  # of GGML's blocks
_IMPORTANCE_SHARE = 0.6  # of the time of an export that looks at texts


class Order(Struct, frozen=True):
    """What the parent asks for; `out` is the file."""

    source: Path
    out: Path
    name: str
    license: str
    kind: str
    calibration: Calibration | None


class _Tensor(Struct, frozen=True):
    source: str
    file: Path | None
    shape: tuple[int, ...]
    kind: GgmlType


def write_file(order: Order, tell: Tell) -> None:
    """Write the file that `order` asks for, telling `share`, `note` and, at the end, `shares` and `peak_bytes`."""
    from gguf import GGUFWriter

    recipe = RECIPES[order.kind]
    config = read_config(order.source)
    architecture = check_layout(config, order.name)
    importance: Importance = {}
    if order.calibration is not None:
        importance = _importance(order, order.calibration, tell)
    tensors = _plan(order.source, recipe, config, bool(importance))
    writer = GGUFWriter(order.out, architecture)
    _write_settings(writer, architecture, order, recipe, config, len(importance))
    _write_vocabulary(writer, read_vocabulary(order.source, tensors["token_embd.weight"].shape[0]))
    quantizer = Quantizer(engine_threads())
    for name, tensor in tensors.items():
        nbytes = int(np.prod(tensor.shape[:-1], dtype=np.int64)) * quantizer.row_bytes(tensor.kind, tensor.shape[-1])
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), nbytes, raw_dtype=_ggml(tensor.kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    share = (1.0 - _IMPORTANCE_SHARE if importance else 1.0) / len(tensors)
    for name, tensor, values in _values(tensors, config):
        ordered = in_order(architecture, name, values, config)
        columns = importance.get(tensor.source.removesuffix(".weight"))
        writer.write_tensor_data(quantizer.quantize(name, ordered, tensor.kind, columns))
        tell(share=share, note=f"{name} {tensor.kind.name}")
    writer.close()
    counts: dict[GgmlType, int] = {}
    for tensor in tensors.values():
        if len(tensor.shape) > 1:
            counts[tensor.kind] = counts.get(tensor.kind, 0) + int(np.prod(tensor.shape, dtype=np.int64))
    tell(shares=shares(counts), peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _importance(order: Order, calibration: Calibration, tell: Tell) -> "Importance":
    from vivace.compress.gguf.importance import measure_importance
    from vivace.models import load_causal_lm

    model = load_causal_lm(order.source)
    count = len(calibration.rows)
    done = 0

    def on_row() -> None:
        nonlocal done
        done += 1
        tell(share=_IMPORTANCE_SHARE / count, note=f"importance: text {done} of {count}")

    return measure_importance(model, calibration.rows, on_row)


def _plan(folder: Path, recipe: Recipe, config: Mapping[str, Any], importance: bool) -> dict[str, _Tensor]:
    """Return the tensors by GGUF's name, in the order of the file, without reading them."""
    from safetensors import safe_open

    found: dict[str, tuple[str, Path | None, tuple[int, ...]]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "np") as opened:
            for source in opened.keys():  # noqa: SIM118
                if not source.endswith("rotary_emb.inv_freq"):  # old files hold what is computed
                    found[gguf_name(source)] = (source, file, tuple(opened.get_slice(source).get_shape()))
    if config.get("tie_word_embeddings"):
        found.pop("output.weight", None)
    factors = rope_factors(config)
    if factors is not None:
        found["rope_freqs.weight"] = ("", None, factors.shape)
    missing = {"token_embd.weight", "output_norm.weight"} - set(found)
    if missing:
        raise ModelError(f"{folder} holds no {', '.join(sorted(missing))}.", "Download or make the model again.")
    layers = int(config["num_hidden_layers"])
    tied = "output.weight" not in found
    return {
        name: _Tensor(
            source, file, shape, tensor_type(recipe, name, shape, layers=layers, tied=tied, importance=importance)
        )
        for name, (source, file, shape) in sorted(found.items(), key=lambda item: _place(item[0]))
    }


def _place(name: str) -> tuple[int, int, str]:
    """Embeddings first, then layer by layer, then the rest."""
    if name.startswith("blk."):
        return (1, int(name.split(".")[1]), name)
    return (0 if name.startswith("token_embd") else 2, 0, name)


def _values(
    tensors: Mapping[str, _Tensor], config: Mapping[str, Any]
) -> Iterator[tuple[str, _Tensor, NDArray[np.float32]]]:
    from safetensors import safe_open

    for name, tensor in tensors.items():
        if tensor.file is None:
            factors = rope_factors(config)
            assert factors is not None
            yield name, tensor, factors
            continue
        with safe_open(tensor.file, "np") as opened:
            halved = opened.get_slice(tensor.source).get_dtype() == "BF16"
            values = None if halved else opened.get_tensor(tensor.source)
        if values is None:  # numpy has no bfloat16, and torch takes seconds to import
            with safe_open(tensor.file, "pt") as opened:
                values = opened.get_tensor(tensor.source).float().numpy()
        yield name, tensor, values.astype(np.float32)


def _write_settings(
    writer: "GGUFWriter", architecture: str, order: Order, recipe: Recipe, config: Mapping[str, Any], watched: int
) -> None:
    writer.add_type("model")
    writer.add_name(order.name)
    if order.license:
        writer.add_license(order.license.lower())
    writer.add_file_type(recipe.file_type)
    writer.add_quantization_version(_QUANTIZATION_VERSION)
    for key, value in settings(config).items():
        _write(writer, f"{architecture}.{key}", value)
    if order.calibration is not None:
        writer.add_string("quantize.imatrix.dataset", order.calibration.source)
        writer.add_uint32("quantize.imatrix.entries_count", watched)
        writer.add_uint32("quantize.imatrix.chunks_count", len(order.calibration.rows))


def _write_vocabulary(writer: "GGUFWriter", vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    for key, value in vocabulary.fields.items():
        _write(writer, "tokenizer.chat_template" if key == "chat_template" else f"tokenizer.ggml.{key}", value)


def _write(writer: "GGUFWriter", key: str, value: float | str | bool) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case _:
            writer.add_string(key, value)


def _ggml(kind: GgmlType) -> Any:
    from gguf.constants import GGMLQuantizationType

    return GGMLQuantizationType(int(kind))


def main(arguments: list[str]) -> int:
    """Export as the JSON file `arguments[0]` says; JSON lines on stdout tell of progress, or of the failure."""
    # The parent reads stdout; the libraries' own bars and notes go where complaints go.
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**facts: Any) -> None:
        print(json.dumps(facts), file=report, flush=True)

    try:
        write_file(msgspec.json.decode(Path(arguments[0]).read_bytes(), type=Order, dec_hook=_path), tell)
    except VivaceError as error:
        tell(error=error.message, hint=error.hint)
        return ModelError.exit_code
    report.close()
    # Libraries' threads and destructors take a second to end, and there is nothing left to lose.
    sys.stderr.flush()
    os._exit(0)


def _path(kind: type, value: Any) -> Any:
    return kind(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
