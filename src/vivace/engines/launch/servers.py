"""The command that starts a server on a model: one function per server, each flag with its reason.

What all have in common: the name that clients ask for is the project's, the chat template and the context length are
the model's own, the server's own defaults of sampling are switched off, a key travels in the environment and never on
a command line, and code that comes with a model is never run.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct, field

from vivace.domain import Model
from vivace.errors import ConfigError, EngineError
from vivace.models.tokenizer import context_length, read_json
from vivace.registry import nearest

LOCAL = "127.0.0.1"
TGI_NEW_TOKENS = 512
"""What Text Generation Inference keeps of the context for the answer: it refuses prompts that leave less."""


class Wishes(Struct, frozen=True):
    """What the user wants of a server; None or empty leaves it to the server or the model."""

    name: str
    host: str = LOCAL
    port: int = 8001
    key_env: str = ""
    context_length: int | None = None
    dtype: str = ""
    max_num_seqs: int | None = None
    gpus: int | None = None
    gpu_memory: float | None = None
    threads: int | None = None


class Launch(Struct, frozen=True):
    """A server to be started: `environment` maps the server's variables to values; a key's value is `env:NAME`.

    `notes` are what the user should know of it before it runs.
    """

    server: str
    command: tuple[str, ...]
    name: str
    url: str
    context_length: int
    tokenizer: str
    environment: dict[str, str] = field(default_factory=dict)
    key_env: str = ""
    ignore_eos: bool = False
    likelihood: bool = False
    notes: tuple[str, ...] = ()
    health: str = "/health"


class Server(Struct, frozen=True):
    """A server we can start: which model formats it opens, its program, its image, and where to get it."""

    name: str
    formats: frozenset[str]
    program: str
    image: str
    get: str
    needs_gpu: bool
    build: Callable[[Model, Wishes], Launch]


def plan(server: str, model: Model, wishes: Wishes) -> Launch:
    """Return how `server` is started on `model`; raises `ConfigError` or `EngineError` with what would go wrong."""
    if server not in SERVERS:
        raise ConfigError(f"There is no server {server!r}.", nearest(server, list(SERVERS)))
    chosen = SERVERS[server]
    if model.format not in chosen.formats:
        raise EngineError(
            f"{chosen.name} does not open {model.name}, a model in format {model.format!r}.",
            f"It opens: {', '.join(sorted(chosen.formats))}.",
        )
    return chosen.build(model, wishes)


def _vllm(model: Model, wishes: Wishes) -> Launch:
    length = _length(model, wishes)
    command = ["vllm", "serve", str(model.path), "--served-model-name", wishes.name]
    command += ["--host", wishes.host, "--port", str(wishes.port), "--max-model-len", str(length)]
    # The folder's generation_config.json would set temperature and penalties for requests that name none; its
    # end-of-turn tokens are read all the same.
    command += ["--generation-config", "vllm", "--enable-prefix-caching"]
    dtype, notes = wishes.dtype, []
    if not dtype and (reason := _wants_half(model.path)):
        dtype = "half"
        notes.append(f"{reason}: vLLM's slower int4 kernel is used, which takes float16 only (--dtype half).")
    command += ["--dtype", dtype or "auto"]
    if template := _template(model.path):
        command += ["--chat-template", template]
    if wishes.max_num_seqs:
        command += ["--max-num-seqs", str(wishes.max_num_seqs)]
    if wishes.gpus and wishes.gpus > 1:
        command += ["--tensor-parallel-size", str(wishes.gpus)]
    if wishes.gpu_memory:
        command += ["--gpu-memory-utilization", f"{wishes.gpu_memory:g}"]
    environment = {"VLLM_API_KEY": f"env:{wishes.key_env}"} if wishes.key_env else {}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    return _launch("vllm", model, wishes, command, environment, notes, length=length, likelihood=True, ignore_eos=True)


def _tgi(model: Model, wishes: Wishes) -> Launch:
    length = _length(model, wishes)
    command = ["text-generation-launcher", "--model-id", str(model.path)]
    command += ["--hostname", wishes.host, "--port", str(wishes.port)]
    longest_prompt = max(1, length - min(TGI_NEW_TOKENS, length // 2))
    command += ["--max-total-tokens", str(length), "--max-input-tokens", str(longest_prompt)]
    notes = [f"It refuses prompts of more than {longest_prompt:,} tokens: it keeps room for the answer."]
    quantized = _quantization(model.path)
    if quantized:
        command += ["--quantize", quantized]
    elif wishes.dtype:
        command += ["--dtype", {"half": "float16"}.get(wishes.dtype, wishes.dtype)]
    if wishes.max_num_seqs:
        command += ["--max-concurrent-requests", str(wishes.max_num_seqs)]
    if wishes.gpus and wishes.gpus > 1:
        command += ["--sharded", "true", "--num-shard", str(wishes.gpus)]
    if wishes.gpu_memory:
        command += ["--cuda-memory-fraction", f"{wishes.gpu_memory:g}"]
    environment = {"API_KEY": f"env:{wishes.key_env}"} if wishes.key_env else {}
    environment |= {"PREFIX_CACHING": "1", "USAGE_STATS": "off", "HF_HUB_OFFLINE": "1"}
    return _launch("tgi", model, wishes, command, environment, notes, length=length)


def _llamacpp(model: Model, wishes: Wishes) -> Launch:
    (file,) = [model.path] if model.path.is_file() else sorted(model.path.glob("*.gguf"))[:1]
    length = _length(model, wishes)
    slots = wishes.max_num_seqs or 4
    # A key in the environment is read by the program itself (LLAMA_API_KEY).
    environment = {"LLAMA_API_KEY": f"env:{wishes.key_env}"} if wishes.key_env else {}
    common = ["--model", str(file), "--alias", wishes.name, "--host", wishes.host, "--port", str(wishes.port)]
    common += ["--ctx-size", str(length * slots), "--parallel", str(slots)]
    if wishes.threads:
        common += ["--threads", str(wishes.threads)]
    # Its own defaults would be temperature 0.8, top-k 40 and min-p 0.05 for requests that do not name them.
    common += ["--temp", "0", "--top-k", "0", "--top-p", "1", "--min-p", "0"]
    template = _template(model.path) if model.path.is_dir() else ""
    if shutil.which("llama-server"):
        own = ["--chat-template-file", template] if template else []
        command = ["llama-server", *common, "--jinja", *own, "--offline"]
    else:
        command = [sys.executable, "-P", "-m", "vivace.engines.launch.llamacpp_server", *common]
    return _launch("llamacpp", model, wishes, command, environment, [], length=length, ignore_eos=True)


def _vivace(model: Model, wishes: Wishes) -> Launch:
    raise EngineError(
        f"{model.name} is a model; Vivace serves releases.", "Name a release: `vivace release list` shows them."
    )


def _launch(
    server: str,
    model: Model,
    wishes: Wishes,
    command: list[str],
    environment: Mapping[str, str],
    notes: list[str],
    *,
    length: int,
    likelihood: bool = False,
    ignore_eos: bool = False,
) -> Launch:
    told = tuple(notes)
    if wishes.host not in (LOCAL, "localhost", "::1") and not wishes.key_env:
        told += (f"Everybody who reaches {wishes.host} may ask it: name a key with --key-env.",)
    return Launch(
        server=server,
        command=tuple(command),
        name=wishes.name,
        url=f"http://{LOCAL if wishes.host in ('0.0.0.0', '::') else wishes.host}:{wishes.port}",
        context_length=length,
        tokenizer=str(model.path) if (model.path / "tokenizer.json").is_file() else "",
        environment=dict(environment),
        key_env=wishes.key_env,
        ignore_eos=ignore_eos,
        likelihood=likelihood,
        notes=told,
    )


def _length(model: Model, wishes: Wishes) -> int:
    """Return the context: as wished, the model's own by default, never more than the model has."""
    folder = model.path if model.path.is_dir() else model.path.parent
    own = context_length(folder) if (folder / "config.json").is_file() else None
    wanted = wishes.context_length
    if wanted is not None and own is not None and wanted > own:
        raise ConfigError(f"A context of {wanted:,} tokens is more than {model.name} has ({own:,}).")
    return wanted or own or 2048


def _template(folder: Path) -> str:
    """Return the chat template's own file, which servers of any age can be told; empty where it is in a JSON."""
    path = folder / "chat_template.jinja"
    return str(path) if path.is_file() else ""


def _quantization(folder: Path) -> str:
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    found = config.get("quantization_config")
    return str(found.get("quant_method", "")) if isinstance(found, dict) else ""


def _wants_half(folder: Path) -> str:
    """Say why packed 4-bit weights need float16: Marlin, vLLM's fast kernel, wants inputs that 128 divides."""
    if _quantization(folder) != "compressed-tensors":
        return ""
    config = read_json(folder / "config.json")
    if '"num_bits": 4' not in json.dumps(config.get("quantization_config")):
        return ""
    uneven = [key for key in ("hidden_size", "intermediate_size") if int(config.get(key) or 0) % 128]
    return f"{uneven[0]} is {config[uneven[0]]}, which 128 does not divide" if uneven else ""


_HF = frozenset({"hf"})
SERVERS: dict[str, Server] = {
    "vllm": Server(
        "vLLM", _HF, "vllm", "vllm/vllm-openai:v0.11.0",
        "pip install vllm, in an environment of its own on a machine with a GPU", True, _vllm,
    ),
    "tgi": Server(
        "Text Generation Inference", _HF, "text-generation-launcher",
        "ghcr.io/huggingface/text-generation-inference:3.3.5",
        "it comes as a container: --container docker", True, _tgi,
    ),
    "llamacpp": Server(
        "llama.cpp", frozenset({"gguf"}), "llama-server", "ghcr.io/ggml-org/llama.cpp:server",
        'pip install "vivace[loop]", or llama-server on the PATH', False, _llamacpp,
    ),
    "vivace": Server(
        "Vivace", frozenset({"openvino", "onnx", "gguf", "hf", "adapter", "echo"}), "vivace", "",
        "it is there", False, _vivace,
    ),
}  # fmt: skip
