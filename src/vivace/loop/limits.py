"""What each export will need of memory and disk, told before it is made or opened, and what cannot fit is not begun.

An estimate is weights, what an engine expands of them, its cache for the conversations at work, and its runtime. The
constants were measured with SmolLM2-135M-Instruct and a model of 0.3 MB (docs/engines.md, "What fits"). Where the bench
has measured an export, its figure is used instead.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.config import Settings
from vivace.config.plan import FOR_GPU_SERVERS
from vivace.config.providers import ProviderSettings
from vivace.domain import Candidate, Model, Speed
from vivace.engines.limits import free_memory_bytes
from vivace.loop.project import Project
from vivace.models import describe
from vivace.models.tokenizer import read_json
from vivace.store.files import free_bytes

TOKENS_AT_WORK = 2_048
"""Tokens in the cache at once: eight conversations of 256."""
_LLAMACPP_TOKENS = 16_384
_BATCH_TOKENS = 256
_LOGIT_BYTES = 4
_RUNTIME_BYTES = {"openvino": 145e6, "onnxruntime": 87e6, "llamacpp": 68e6, "transformers": 522e6, "echo": 40e6}
_EXPANDED_TABLES = {"openvino": 2, "onnxruntime": 1, "llamacpp": 0, "transformers": 0}
"""How many copies of the vocabulary's table an engine holds in float32."""
_CACHE_BYTES = {"openvino": 1.125, "onnxruntime": 4.0, "llamacpp": 2.0, "transformers": 4.0}
_WEIGHT_BYTES: Mapping[str, tuple[float, float]] = {
    # Of a weight in the layers, and in the table of the vocabulary.
    "openvino-int8": (1.05, 1.05), "openvino-int4": (0.76, 1.05), "openvino-fp16": (2.04, 2.04),
    "onnx-int4": (0.57, 1.05), "onnx-int8": (1.2, 5.05), "gguf-f16": (2.02, 2.02), "gguf-q8_0": (1.08, 1.08),
    "gguf-q6_k": (0.84, 0.84), "gguf-q4_k_m": (0.63, 0.84), "gguf-q4_0": (0.61, 1.08),
}  # fmt: skip
_ENGINES = {"openvino": "openvino", "onnx": "onnxruntime", "gguf": "llamacpp", "hf": "transformers"}


class Limits(Struct, frozen=True):
    """What a user's machine or budget allows; None is no limit."""

    memory_bytes: int | None = None
    disk_bytes: int | None = None
    cost_usd_per_1000: float | None = None


class Need(Struct, frozen=True):
    """What an export needs; `measured` says that its memory was seen by the bench, not estimated."""

    name: str
    memory_bytes: int
    disk_bytes: int
    measured: bool = False


class Shape(Struct, frozen=True):
    """What of a model decides how large it is: a table is vocabulary times width."""

    parameters: int
    table: int
    vocabulary: int
    cache_values_per_token: int


def limits_of(settings: Settings) -> Limits:
    """Return the limits of `[release]`, and the memory that can be had now."""
    wanted = settings.release
    free = free_memory_bytes()
    memory = free if wanted.max_memory_mb is None else min(free, round(wanted.max_memory_mb * 1e6))
    disk = None if wanted.max_size_mb is None else round(wanted.max_size_mb * 1e6)
    return Limits(memory, disk, getattr(wanted, "max_cost_usd_per_1000", None))


def shape_of(folder: Path) -> Shape | None:
    """Return a model folder's shape, None where its files do not tell it."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    config = inner if isinstance(inner, dict) else config
    parameters = describe(folder).parameters
    numbers = [
        _number(config, name) for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    ]
    if parameters is None or not all(numbers):
        return None
    vocabulary, width, layers, heads = numbers
    kv_heads = _number(config, "num_key_value_heads") or heads
    head = _number(config, "head_dim") or width // heads
    return Shape(parameters, vocabulary * width, vocabulary, 2 * layers * kv_heads * head)


def need_of(kind: str, shape: Shape, *, tokens: int = TOKENS_AT_WORK) -> Need:
    """Estimate what an export of a model of this shape needs, before it is made; `kind` is such as openvino-int8."""
    engine = _ENGINES[kind.partition("-")[0]]
    body, table = _WEIGHT_BYTES.get(kind, (4.0, 4.0))
    weights = (shape.parameters - shape.table) * body + shape.table * table
    return Need(kind, _memory(engine, weights, shape, tokens), round(weights))


def need_of_model(name: str, model: Model, engine: str, *, tokens: int = TOKENS_AT_WORK) -> Need:
    """Estimate what a model that is there needs on an engine: its weights are known."""
    size = describe(model.path).size_bytes
    shape = shape_of(model.path)
    if shape is None or engine not in _EXPANDED_TABLES:
        return Need(name, round(_RUNTIME_BYTES.get(engine, 0.0)) + size, size)
    weights = shape.parameters * 4 if engine == "transformers" else size
    return Need(name, _memory(engine, weights, shape, tokens), size)


def cannot_fit(needs: Sequence[Need], limits: Limits) -> dict[str, str]:
    """Return why each export that does not fit is not begun, with what would fit."""
    refused = {}
    fitting = sorted((need for need in needs if not _beyond(need, limits)), key=lambda need: -need.memory_bytes)
    for need in needs:
        if beyond := _beyond(need, limits):
            would = f"{fitting[0].name} (about {_mb(fitting[0].memory_bytes)}) would fit." if fitting else ""
            smallest = min(needs, key=lambda each: each.memory_bytes)
            none = f"Nothing would fit: the smallest, {smallest.name}, needs about {_mb(smallest.memory_bytes)}."
            refused[need.name] = f"{need.name} is not begun: it {beyond}. {would or none}"
    return refused


def unfit_exports(project: Project, model: Model, kinds: Sequence[str]) -> dict[str, str]:
    """Return which exports of a model would not fit this project's limits, and why; nothing is made or opened."""
    shape = shape_of(model.path)
    if shape is None:
        return {}
    limits = limits_of(project.settings)
    needs = [need_of(kind, shape) for kind in kinds if kind not in FOR_GPU_SERVERS]
    room = free_bytes(project.root)
    tight = {need.name: f"{need.name} is not begun: it needs {_mb(need.disk_bytes)} of disk; {_mb(room)} are free."
             for need in needs if need.disk_bytes > room}  # fmt: skip
    return cannot_fit(needs, limits) | tight


def unfit_candidates(project: Project, items: Sequence[Candidate]) -> dict[str, str]:
    """Return which candidates cannot be opened within this project's limits, measured figures before estimates."""
    seen = measured_memory(project)
    needs = []
    for item in items:
        if item.model.format == "remote":
            continue
        need = need_of_model(item.name, item.model, item.engine)
        if (peak := seen.get((item.name, item.model.artifact_id))) is not None:
            need = msgspec.structs.replace(need, memory_bytes=peak, measured=True)
        needs.append(need)
    return cannot_fit(needs, limits_of(project.settings))


def measured_memory(project: Project) -> dict[tuple[str, str], int]:
    """Return the peak memory that benches have seen, by candidate and artifact; the newest counts."""
    found: dict[tuple[str, str], int] = {}
    for report in project.store.artifacts("bench"):
        path = report.path / "speed.json"
        if not path.is_file():
            continue
        speeds = msgspec.json.decode(path.read_bytes(), type=dict[str, Speed])
        for name, speed in speeds.items():
            for parent in report.origin.parents:
                found.setdefault((name, parent), speed.peak_memory_bytes)
    return found


def cost_usd_per_1000(provider: ProviderSettings, prompt_tokens: float, answer_tokens: float) -> float | None:
    """Return what a thousand answers of a provider cost, None without prices."""
    read, written = provider.price_per_million_input_tokens, provider.price_per_million_output_tokens
    return None if read is None or written is None else (prompt_tokens * read + answer_tokens * written) / 1e3


def too_dear(name: str, cost_usd: float | None, limits: Limits) -> str:
    """Return why a provider is not asked, empty where its price is unknown or within the limit."""
    limit = limits.cost_usd_per_1000
    if limit is None or cost_usd is None or cost_usd <= limit:
        return ""
    return f"{name} is not begun: a thousand answers cost about {cost_usd:.2f} USD, the limit is {limit:g} USD."


def _memory(engine: str, weights: float, shape: Shape, tokens: int) -> int:
    expanded = _EXPANDED_TABLES[engine] * shape.table * 4
    logits = _BATCH_TOKENS * shape.vocabulary * _LOGIT_BYTES
    held = _LLAMACPP_TOKENS if engine == "llamacpp" else tokens  # llama.cpp takes its whole cache at once
    cache = held * shape.cache_values_per_token * _CACHE_BYTES[engine]
    return round(_RUNTIME_BYTES[engine] + weights + expanded + logits + cache)


def _beyond(need: Need, limits: Limits) -> str:
    about = "" if need.measured else "about "
    if limits.memory_bytes is not None and need.memory_bytes > limits.memory_bytes:
        return f"needs {about}{_mb(need.memory_bytes)} of memory, the limit is {_mb(limits.memory_bytes)}"
    if limits.disk_bytes is not None and need.disk_bytes > limits.disk_bytes:
        return f"needs about {_mb(need.disk_bytes)} on disk, the limit is {_mb(limits.disk_bytes)}"
    return ""


def _number(config: Mapping[str, Any], name: str) -> int:
    value = config.get(name)
    return value if isinstance(value, int) else 0


def _mb(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"
