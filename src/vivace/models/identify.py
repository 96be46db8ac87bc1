"""Tell what a model folder is, whether it is safe to open, and whether it fits this machine."""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct

from vivace.domain import Model, ModelFormat
from vivace.errors import ModelError, ResourceError
from vivace.models.cache import MANIFEST, read_manifest
from vivace.models.gguf_file import read_header
from vivace.models.tokenizer import context_length, read_json

# What a model folder may hold. Everything else is refused by name: code, and formats that can carry code.
# fmt: off
_DATA_SUFFIXES = frozenset((
    ".safetensors", ".gguf", ".onnx", ".data", ".xml", ".json", ".jsonl", ".jinja", ".txt", ".md", ".model",
    ".tiktoken", ".toml", ".yaml", ".yml", ".csv", ".lock", ".png", ".jpg", ".svg", ".pdf",
))
# fmt: on
# fmt: off
_DATA_NAMES = frozenset((
    "LICENSE", "LICENCE", "NOTICE", "COPYING", "README", "CITATION.cff", ".gitattributes", ".gitignore",
    "USE_POLICY",
))
# fmt: on
_UNREAD_FOLDERS = frozenset({".git", ".cache"})
_CODE_KEYS = ("auto_map", "custom_pipelines", "custom_ops_library")
_WEIGHT_NAMES = {
    "F32": "fp32", "BF16": "bf16", "F16": "fp16", "I8": "int8", "U8": "int8", "F8_E4M3": "fp8", "F64": "fp64",
}  # fmt: skip
_IR_NAMES = {
    "f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8", "i4": "int4", "u4": "int4", "nf4": "int4",
}  # fmt: skip
_IR_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int4": 0.5}
_IR_CONSTANT = re.compile(rb'<data element_type="(\w+)" shape="[^"]*" offset="\d+" size="(\d+)"')
# The attribute `bits` of a MatMulNBits node, as ONNX's protobuf writes it: name, then the integer.
_ONNX_BITS = re.compile(rb"\n\x04bits\x18([\x02-\x08])")
_MAX_HEADER_BYTES = 100_000_000


class Description(Struct, frozen=True):
    """What `vivace models` shows of a model; `parameters` is None where the format does not say."""

    name: str
    path: Path
    format: ModelFormat
    architecture: str
    weights: str
    parameters: int | None
    context_length: int
    size_bytes: int
    license: str
    note: str = ""


def identify(folder: Path) -> Model:
    """Return the model in a folder or .gguf file, by its files; raises `ModelError` when it is none."""
    folder = folder.expanduser().absolute()
    if folder.suffix == ".gguf" and folder.is_file():
        header = read_header(folder)
        return Model(folder.stem, folder, "gguf", header.weights, license=_gguf_license(header.metadata))
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {folder}.")
    model_format = _format(folder)
    manifest = read_manifest(folder)
    name = manifest.name if manifest else folder.name
    license_name = (manifest.license if manifest else "") or _license(folder)
    if model_format == "gguf":
        only = only_gguf(folder)
        header = read_header(only)
        # With tokenizer and configuration beside it, the folder is what an engine opens; else the file is all there is.
        whole = (folder / "tokenizer.json").is_file() and (folder / "config.json").is_file()
        place = folder if whole else only
        return Model(name, place, "gguf", header.weights, license=license_name or _gguf_license(header.metadata))
    parent = _adapter_parent(folder) if model_format == "adapter" else None
    return Model(name, folder, model_format, _weights(folder, model_format), base=parent, license=license_name)


def describe(folder: Path) -> Description:
    """Return what there is to say about a model folder or .gguf file."""
    model = identify(folder)
    manifest = read_manifest(folder)
    if model.format == "gguf":
        header = read_header(only_gguf(model.path))
        architecture, length = header.architecture, int(header.setting("context_length") or 0)
        parameters = sum(tensor.elements for tensor in header.tensors) or None
    else:
        config = read_json((model.base or model.path) / "config.json")
        names = config.get("architectures")
        architecture = str(names[0]) if isinstance(names, list) and names else str(config.get("model_type", "unknown"))
        length = context_length(model.path)
        parameters = _safetensors_size(model.path)[0] or None
    return Description(
        name=model.name,
        path=model.path,
        format=model.format,
        architecture=architecture,
        weights=model.weights,
        parameters=parameters,
        context_length=length,
        size_bytes=size_bytes(model.path),
        license=model.license,
        note=manifest.note if manifest else "",
    )


def size_bytes(path: Path) -> int:
    """Return the size of a model's files."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in _files(path))


def check_data_only(folder: Path) -> None:
    """Refuse a model folder that holds anything but data, naming the file; raises `ModelError`."""
    if not folder.is_dir():
        raise ModelError(f"There is no model folder {folder}.")
    for path in _files(folder):
        if not _is_data(path):
            raise ModelError(
                f"The model folder {folder} holds {path.relative_to(folder).as_posix()!r}, which is not plain data "
                "and could run code when opened.",
                "Use safetensors weights; if nothing needs the file, remove it.",
            )
        if path.suffix == ".json" and path.name.endswith(("config.json", "configuration.json")):
            _check_no_code(folder, path)


def fits(model: Model, available_bytes: int | None = None) -> int:
    """Return the memory the weights of `model` need; raises `ResourceError` when they do not fit into what is free."""
    need = _memory_bytes(model)
    if model.base is not None:
        need += _memory_bytes(identify(model.base))
    free = psutil.virtual_memory().available if available_bytes is None else available_bytes
    if need > free:
        raise ResourceError(
            f"The weights of {model.name} need {need / 1e6:,.0f} MB of memory; {free / 1e6:,.0f} MB are free.",
            "Take a smaller model or fewer bits, or close other programs.",
        )
    return need


def _format(folder: Path) -> ModelFormat:
    if (folder / "adapter_config.json").is_file():
        return "adapter"
    if (folder / "genai_config.json").is_file():
        return "onnx"
    if (folder / "openvino_model.xml").is_file():
        return "openvino"
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        return "hf"
    if any(folder.glob("*.gguf")):
        return "gguf"
    pickles = sorted(path.name for suffix in ("bin", "pt", "pth") for path in folder.glob(f"*.{suffix}"))
    if pickles:
        raise ModelError(
            f"{folder} holds its weights as {pickles[0]!r}, a pickle, which can run code when opened.",
            "Use a version with safetensors weights.",
        )
    raise ModelError(
        f"{folder} is no model folder.",
        "It needs config.json and *.safetensors, adapter_config.json, openvino_model.xml, genai_config.json or .gguf.",
    )


def _weights(folder: Path, model_format: ModelFormat) -> str:
    if model_format == "openvino":
        return _ir_weights(folder / "openvino_model.xml")
    if model_format == "onnx":
        return _onnx_weights(folder)
    return _packed_weights(folder) or _safetensors_size(folder)[2]


def _packed_weights(folder: Path) -> str:
    """Return the scheme of a compressed-tensors folder, such as w4a16: it packs several weights into one number."""
    path = folder / "config.json"
    told = read_json(path).get("quantization_config") if path.is_file() else None
    if not isinstance(told, dict) or told.get("quant_method") != "compressed-tensors":
        return ""
    groups = told.get("config_groups")
    group = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    if not isinstance(group, dict) or not isinstance(group.get("weights"), dict):
        return "compressed"
    activations = group.get("input_activations")
    return f"w{group['weights'].get('num_bits')}a{activations.get('num_bits') if isinstance(activations, dict) else 16}"


def _safetensors_size(folder: Path) -> tuple[int, int, str]:
    """Return how many numbers the safetensors hold, their bytes in fp32, and the type most of them have."""
    by_type: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in _safetensors_header(path).items():
            if name != "__metadata__":
                by_type[tensor["dtype"]] = by_type.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    total = sum(by_type.values())
    commonest = max(by_type, key=lambda kind: by_type[kind], default="F32")
    return total, 4 * total, _WEIGHT_NAMES.get(commonest, commonest.lower())


def _safetensors_header(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {size} bytes")
            header = json.loads(file.read(size))
        if not isinstance(header, dict):
            raise ValueError("no object")
        for name, tensor in header.items():
            if name != "__metadata__" and not (isinstance(tensor["dtype"], str) and isinstance(tensor["shape"], list)):
                raise ValueError(f"tensor {name!r}")
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise ModelError(f"{path} is not a whole safetensors file: {error}.", "Download or make it again.") from error
    return header


def _ir_weights(path: Path) -> str:
    """Return the kind most weights have, counted in numbers, not bytes: int4 models keep their embeddings in int8."""
    counts: dict[str, float] = {}
    for kind, size in _IR_CONSTANT.findall(path.read_bytes()):
        name = _IR_NAMES.get(kind.decode())
        if name is not None:
            counts[name] = counts.get(name, 0) + int(size) / _IR_BYTES[name]
    return max(counts, key=lambda name: counts[name], default="fp32")


def _onnx_weights(folder: Path) -> str:
    for path in sorted(folder.glob("*.onnx")):
        with open(path, "rb") as file:
            found = _ONNX_BITS.findall(file.read(64_000_000))
        if found:
            bits = [value[0] for value in found]
            return f"int{max(set(bits), key=bits.count)}"
    return "fp32"


def _memory_bytes(model: Model) -> int:
    # transformers computes in fp32 here, whatever the file holds; the other engines keep the weights as they are.
    if model.format in ("hf", "adapter"):
        return _safetensors_size(model.path)[1]
    return 0 if model.format == "echo" else size_bytes(model.path)


def _adapter_parent(folder: Path) -> Path | None:
    named = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    parent = folder / str(named) if named else None
    return parent.absolute() if parent is not None and parent.is_dir() else None


def only_gguf(folder: Path) -> Path:
    """Return the one GGUF file of a folder, or the file itself; raises `ModelError` where there are several."""
    if folder.is_file():
        return folder
    found = sorted(folder.glob("*.gguf"))
    if len(found) > 1:
        raise ModelError(f"{folder} holds {len(found)} GGUF files.", f"Name one, such as {found[0]}.")
    return found[0]


def _license(folder: Path) -> str:
    """Return the licence a model card names in its front matter."""
    try:
        head = (folder / "README.md").read_text(encoding="utf-8", errors="replace")[:8000]
    except OSError:
        return ""
    front = head.split("---", 2)[1] if head.startswith("---") and head.count("---") > 1 else ""
    match = re.search(r"^license:\s*['\"]?([\w.+-]+)", front, re.MULTILINE)
    return license_name(match[1]) if match else ""


def license_name(tag: str) -> str:
    """Return the SPDX spelling of a hub's licence tag where they differ only in case."""
    known = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0")
    return next((name for name in known if name.lower() == tag.lower()), tag)


def _gguf_license(metadata: dict[str, Any]) -> str:
    return license_name(str(metadata.get("general.license", "")))


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and not _UNREAD_FOLDERS.intersection(path.relative_to(folder).parts)
    ]


def _is_data(path: Path) -> bool:
    if path.suffix == ".bin":
        # The weights of an OpenVINO model lie beside the .xml of the same name; every other .bin is a pickle.
        return path.with_suffix(".xml").is_file()
    if path.suffix in _DATA_SUFFIXES or path.name == MANIFEST:
        return True
    return path.name in _DATA_NAMES or path.stem in _DATA_NAMES


def _check_no_code(folder: Path, path: Path) -> None:
    text = path.read_bytes()
    for key in _CODE_KEYS:
        if f'"{key}"'.encode() in text and _names_code(read_json(path), key):
            raise ModelError(
                f"{path.relative_to(folder).as_posix()} in {folder} asks to run code ({key}), which is never done.",
                "Use a model of an architecture that transformers knows.",
            )


def _names_code(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return bool(value.get(key)) or any(_names_code(part, key) for part in value.values())
    return isinstance(value, list) and any(_names_code(part, key) for part in value)
