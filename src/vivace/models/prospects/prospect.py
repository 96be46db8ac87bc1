"""A model as its configuration, its headers and the hub's metadata describe it, and whether it fits this machine."""

import os
from pathlib import Path
from typing import Any

import psutil
from msgspec import Struct, structs

from vivace.domain import ModelFormat
from vivace.errors import ModelError, VivaceError
from vivace.models import catalog
from vivace.models.cache import is_whole
from vivace.models.identify import check_data_only, describe, identify, license_name
from vivace.models.prospects.licenses import Commercial, commercial_use
from vivace.models.resolve import folder_of
from vivace.models.tokenizer import read_json
from vivace.store.files import free_bytes

RUNTIME_BYTES = 400_000_000
"""What an engine's libraries take besides weights and cache: 345 MB measured for OpenVINO, 390 MB for transformers."""
CONVERT_BYTES_PER_PARAMETER = 12
"""The most memory that an export to OpenVINO takes: 11 measured for 135 million parameters, libraries included."""
CACHED_TOKENS = 4096
_MISREAD = 1.5  # a configuration that describes so much more than the file holds is taken at its word


class Prospect(Struct, frozen=True):
    """What is known before anything is loaded; `problem` is why there is nothing to compare, empty when there is.

    `download_bytes` is what would have to be fetched, 0 where the model is here (`path`). `kv_bytes_per_token` is the
    cache of one token in 8 bits with its scales.
    """

    name: str
    label: str
    path: Path | None = None
    format: ModelFormat = "hf"
    architecture: str = "unknown"
    parameters: int | None = None
    context_length: int | None = None
    license: str = ""
    size_bytes: int | None = None
    download_bytes: int = 0
    kv_bytes_per_token: int = 0
    has_template: bool | None = None
    config: dict[str, Any] = {}
    note: str = ""
    problem: str = ""

    @property
    def commercial(self) -> Commercial:
        """Whether the licence permits commercial use."""
        return commercial_use(self.license)

    def serving_bytes(self, bytes_per_parameter: float) -> int:
        """Return the memory that serving takes: weights, the cache of a few conversations, the engine itself."""
        weights = self.size_bytes or 0 if self.parameters is None else int(bytes_per_parameter * self.parameters)
        tokens = min(self.context_length or CACHED_TOKENS, CACHED_TOKENS)
        return weights + tokens * self.kv_bytes_per_token + RUNTIME_BYTES


def prospect(name: str, revision: str = "main", *, root: Path | None = None, cache: Path | None = None) -> Prospect:
    """Return what can be known of a model without loading or downloading it; what is wrong is told in `problem`.

    A folder or file, a name of the catalog or a Hugging Face name, as `vivace.models.resolve` takes them. Of a hub's
    model only the metadata and its config.json are asked for.
    """
    blank = Prospect(name, Path(name).name or name)
    try:
        path = (root or Path()) / Path(name).expanduser()
        if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
            return _local(blank, path.absolute())
        if name.startswith((".", "/", "~")) or name.endswith(".gguf"):
            raise ModelError(f"There is no model folder or GGUF file {path}.")
        entry = None if "/" in name else catalog.find(name)
        here = folder_of(name if entry is None or entry.package else entry.hub_name, revision, cache=cache)
        if is_whole(here):
            return _local(blank, here)
        return _from_hub(blank, name, revision) if entry is None else _from_catalog(blank, entry, revision)
    except VivaceError as error:
        return structs.replace(blank, problem=str(error))


def misfit(found: Prospect, *, serving_bytes: int, making_bytes: int, disk_bytes: int, folder: Path) -> str:
    """Return why a model does not fit this machine, in one sentence; empty when it does."""
    memory = int(psutil.virtual_memory().available)
    if serving_bytes > memory:
        return f"It needs {_gb(serving_bytes)} of memory to be served; {_gb(memory)} are free."
    if making_bytes > memory:
        return f"It needs {_gb(making_bytes)} of memory to be converted for its engine; {_gb(memory)} are free."
    disk = free_bytes(folder)
    if disk_bytes > disk:
        return f"It needs {_gb(disk_bytes)} on disk; {_gb(disk)} are free."
    return ""


def counted_parameters(config: dict[str, Any]) -> int | None:
    """Return how many weights a decoder of this configuration has; None when it does not say.

    Tied embeddings count once. Exact for Llama's layout, within a few percent for its relatives.
    """
    table = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    assert isinstance(table, dict)

    def number(*keys: str) -> int:
        return next((int(table[key]) for key in keys if isinstance(table.get(key), int)), 0)

    hidden, layers = number("hidden_size", "n_embd", "d_model"), number("num_hidden_layers", "n_layer", "num_layers")
    heads, vocab = number("num_attention_heads", "n_head"), number("vocab_size")
    if not (hidden and layers and heads and vocab):
        return None
    inner = number("intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
    width = number("head_dim") or hidden // heads
    kv = number("num_key_value_heads") or heads
    experts = number("num_experts", "num_local_experts", "n_routed_experts") or 1
    # Feed-forward blocks with a gate have three matrices; the older families with GELU have two.
    matrices = 2 if table.get("model_type") in ("gpt2", "gpt_neo", "gpt_neox", "opt", "phi", "gptj") else 3
    layer = 2 * hidden * heads * width + 2 * hidden * kv * width + experts * matrices * hidden * inner + 2 * hidden
    tied = config.get("tie_word_embeddings", table.get("tie_word_embeddings", True))
    return vocab * hidden * (1 if tied else 2) + layers * layer + hidden


def _local(blank: Prospect, path: Path) -> Prospect:
    if path.is_dir() and identify(path).format != "gguf":
        check_data_only(path)
    told = describe(path)
    config = {} if path.is_file() else read_json(path / "config.json")
    counted = counted_parameters(config)
    parameters = told.parameters
    if counted is not None and counted > _MISREAD * (parameters or 0) and told.format == "hf":
        parameters = counted
    return structs.replace(
        blank,
        path=path,
        format=told.format,
        architecture=told.architecture,
        parameters=parameters,
        context_length=told.context_length,
        license=told.license,
        size_bytes=told.size_bytes,
        kv_bytes_per_token=_kv_bytes(config),
        has_template=None if told.format == "gguf" else _has_template(path),
        config=config,
        note=told.note,
    )


def _from_catalog(blank: Prospect, entry: catalog.Entry, revision: str) -> Prospect:
    known = structs.replace(
        blank,
        parameters=entry.parameters,
        context_length=entry.context_length,
        license=entry.license,
        download_bytes=entry.package.size_bytes if entry.package else 2 * entry.parameters,
        has_template=True,
    )
    if entry.package is not None:
        return known
    found = _from_hub(known, entry.hub_name, revision)
    return structs.replace(found, license=found.license or entry.license, has_template=True)


def _from_hub(blank: Prospect, name: str, revision: str) -> Prospect:
    info, config = _metadata(name, revision)
    names = config.get("architectures")
    files = {item.rfilename: item.size or 0 for item in info.siblings or ()}
    weights = {file: size for file, size in files.items() if file.endswith(".safetensors") and "/" not in file}
    if files and not weights:
        raise ModelError(f"{name} has no safetensors weights on the hub.", "Use a model that has.")
    tags = [str(tag) for tag in info.tags or ()]
    written = next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), "")
    total = info.safetensors.total if info.safetensors else None
    return structs.replace(
        blank,
        architecture=str(names[0]) if isinstance(names, list) and names else "unknown",
        parameters=total or counted_parameters(config) or blank.parameters,
        context_length=_context(config) or blank.context_length,
        license=license_name(written),
        size_bytes=sum(weights.values()) or None,
        download_bytes=sum(weights.values()) or blank.download_bytes,
        kv_bytes_per_token=_kv_bytes(config),
        has_template=None if not files else "chat_template.jinja" in files or blank.has_template,
        config=config,
    )


def _metadata(name: str, revision: str) -> tuple[Any, dict[str, Any]]:
    """Return what the hub says of a model, and its config.json."""
    from vivace.models.fetch import _reason

    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError as error:
        raise ModelError(
            f"{name} is a Hugging Face name, and huggingface_hub is not installed.", "Run: pip install 'vivace[loop]'"
        ) from error
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        info = HfApi(endpoint=endpoint).model_info(name, revision=revision, files_metadata=True)
        path = hf_hub_download(name, "config.json", revision=revision, endpoint=endpoint)
    except Exception as error:  # the hub's own errors and its transport's, of which there are dozens
        hint = "Check the name and the network (and HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN)."
        raise ModelError(f"{name} cannot be looked up on the hub: {_reason(error)}.", hint) from error
    return info, read_json(Path(path))


def _kv_bytes(config: dict[str, Any]) -> int:
    table = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    assert isinstance(table, dict)
    layers, heads = table.get("num_hidden_layers"), table.get("num_attention_heads")
    if not isinstance(layers, int) or not isinstance(heads, int):
        return 0
    width = table.get("head_dim") or int(table.get("hidden_size", 0)) // heads
    return 2 * layers * int(table.get("num_key_value_heads") or heads) * (int(width) + 8)


def _context(config: dict[str, Any]) -> int | None:
    for table in (config, config.get("text_config")):
        for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
            value = table.get(key) if isinstance(table, dict) else None
            if isinstance(value, int) and value > 0:
                return value
    return None


def _has_template(folder: Path) -> bool:
    return (folder / "chat_template.jinja").is_file() or bool(
        read_json(folder / "tokenizer_config.json").get("chat_template")
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
