"""What an export weighs."""

from vivace.domain import Model
from vivace.models import describe, size_bytes

_WEIGHT_FILES = (".safetensors", ".bin", ".xml", ".onnx", ".data", ".gguf")


def size_facts(source: Model, exported: Model) -> dict[str, int | float]:
    """Return the size of an export: folder, files, weights, and the bits it spends per weight of `source`."""
    weight_bytes = sum(path.stat().st_size for path in exported.path.iterdir() if path.suffix in _WEIGHT_FILES)
    parameters = describe(source.path).parameters or 0
    facts: dict[str, int | float] = {
        "size_bytes": size_bytes(exported.path),
        "files": sum(path.is_file() for path in exported.path.rglob("*")),
        "weight_bytes": weight_bytes,
        "parameters": parameters,
    }
    if parameters:
        facts["bits_per_weight"] = round(8 * weight_bytes / parameters, 2)
    return facts
