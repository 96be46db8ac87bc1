"""What engines and servers there are: which work on this machine, what they can do, and how to get the others."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from vivace.config.plan import FOR_GPU_SERVERS
from vivace.config.providers import ProviderSettings
from vivace.domain import Chunk, Message, Model, Progress, Request, Sampling
from vivace.engines import ENGINES, engine_threads, open_engine
from vivace.engines.backend import Traits
from vivace.engines.launch import SERVERS
from vivace.engines.launch.containers import runtimes
from vivace.errors import ConfigError, VivaceError
from vivace.loop.launching import running_servers
from vivace.loop.project import Project, open_project
from vivace.loop.tiny import tiny_model
from vivace.models import cache_root, identify

EXPORTS: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino-int8", "openvino-int4", "openvino-fp16"),
    "onnx": ("onnx-int4", "onnx-int8"),
    "gguf": ("gguf-f16", "gguf-q8_0", "gguf-q6_k", "gguf-q4_k_m", "gguf-q4_0"),
}
TINY_EXPORTS = {"openvino": "openvino-fp16", "onnx": "onnx-int8", "gguf": "gguf-f16"}
CHECK_TOKENS = 16
CHECK_S = 300.0
_BASE_PACKAGES = frozenset({"openvino", "openvino_genai"})
NEEDS_GPU = "It needs a machine with a GPU; --print writes the command for one."
QUESTION = "Hello! What can you do?"


class Tried(Struct, frozen=True):
    """One prompt answered: with which model, how long it took to open and to answer; `error` says why it was not."""

    model: str = ""
    load_s: float = 0.0
    first_token_ms: float = 0.0
    seconds: float = 0.0
    prompt_tokens: int = 0
    tokens: int = 0
    error: str = ""


class EngineRow(Struct, frozen=True):
    """One engine: whether it works here, what is missing and how to get it, what it opens and can do."""

    name: str
    works: bool
    missing: str = ""
    get: str = ""
    version: str = ""
    opens: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    adapters: bool = False
    traits: Traits = Traits()
    devices: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    tried: Tried | None = None


class ServerRow(Struct, frozen=True):
    """One server that can be started on a release: its program, or a container runtime, and the GPU it needs."""

    name: str
    works: bool
    detail: str
    get: str = ""
    exports: tuple[str, ...] = ()
    running: tuple[str, ...] = ()


class ProviderRow(Struct, frozen=True):
    """One provider of the project; `ready` is whether its key is there, not whether it answers."""

    name: str
    ready: bool
    detail: str
    tried: Tried | None = None


class Listing(Struct, frozen=True):
    """Everything that can answer."""

    engines: tuple[EngineRow, ...]
    servers: tuple[ServerRow, ...]
    providers: tuple[ProviderRow, ...] = ()
    note: str = ""


def list_engines(start: Path, progress: Progress, *, check: bool = False, ask_providers: bool = False) -> Listing:
    """Look at all engines; with `check`, each that works answers one prompt, providers only with `ask_providers`."""
    engines = [engine_row(name) for name in ENGINES.names()]
    providers: dict[str, ProviderSettings] = {}
    own: dict[str, Model] = {}
    note = ""
    try:
        with open_project(start, progress, lock=False) as project:
            providers = dict(project.settings.models.providers)
            own = own_exports(project) if check else {}
    except ConfigError as error:
        note = "" if "no vivace.toml" in error.message.lower() else error.message
    if check:
        engines = _check_all(engines, own, progress)
    rows = tuple(_provider_row(name, settings) for name, settings in providers.items())
    if ask_providers:
        rows = tuple(_ask_provider(row, providers[row.name], progress) for row in rows)
    return Listing(tuple(engines), tuple(server_rows()), rows, note)


def engine_row(name: str) -> EngineRow:
    """Return what is known of an engine without opening it."""
    try:
        backend = ENGINES.load(name)
    except (VivaceError, ImportError) as error:
        return EngineRow(name, works=False, missing=str(error), get="Reinstall the package that brings this engine.")
    missing = [library for library in backend.libraries if find_spec(library) is None]
    package = "vivace" if set(missing) <= _BASE_PACKAGES else "vivace[loop]"
    traits = getattr(backend, "traits", Traits())
    return EngineRow(
        name=name,
        works=not missing,
        missing=", ".join(missing),
        get=f'pip install "{package}"' if missing else "",
        version=" ".join(f"{library} {_version(library)}" for library in backend.libraries if library not in missing),
        opens=tuple(sorted(backend.formats)),
        exports=tuple(kind for each in sorted(backend.formats) for kind in EXPORTS.get(each, ())),
        adapters="adapter" in backend.formats and name != "echo",
        traits=traits,
        devices=tuple(device for device in traits.devices if device != "CUDA" or gpus()),
        options=tuple(sorted(backend.options)),
    )


def server_rows() -> list[ServerRow]:
    """Return which servers could be started here, and what is missing for the others."""
    containers, cards, started = runtimes(), gpus(), running_servers()
    rows = []
    for name, server in SERVERS.items():
        running = tuple(f"{key} at {each.url}" for key, each in started.items() if each.server == name)
        found, missing = [], []
        program = shutil.which(server.program)
        if program:
            found.append(server.program)
        elif name == "llamacpp" and find_spec("xllamacpp"):
            found.append(f"the server in xllamacpp {_version('xllamacpp')}")
        elif name == "vivace":
            found.append("vivace serve")
        else:
            missing.append(f"no {server.program}")
        if not found and server.image:
            usable = [runtime for runtime, problem in containers.items() if not problem]
            found += [f"a container through {runtime}" for runtime in usable]
            missing += [f"{runtime}: {problem}" for runtime, problem in containers.items() if problem]
            missing += ["no docker or podman"] if not containers else []
        if server.needs_gpu:
            (found if cards else missing).append(cards[0] if cards else "no GPU")
        works = bool(found) and (bool(cards) or not server.needs_gpu) and (len(found) > 1 or not server.needs_gpu)
        exports = (
            tuple(sorted(FOR_GPU_SERVERS))
            if name in ("vllm", "tgi")
            else EXPORTS.get("gguf", ())
            if name == "llamacpp"
            else ()
        )
        detail = "; ".join([*found, *missing])
        get = "" if works else NEEDS_GPU if found and server.needs_gpu and not cards else server.get
        rows.append(ServerRow(name, works, detail, get, exports, running))
    return rows


def gpus() -> list[str]:
    """Return the names of the GPUs that NVIDIA's or AMD's tool tells of."""
    for tool, arguments in (("nvidia-smi", ["-L"]), ("rocm-smi", ["--showproductname", "--csv"])):
        if path := shutil.which(tool):
            try:
                done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=10, check=False)
            except (OSError, subprocess.TimeoutExpired):
                continue
            if done.returncode == 0:
                return [line.split(" (UUID")[0].strip() for line in done.stdout.splitlines() if line.strip()]
    return []


def own_exports(project: Project) -> dict[str, Model]:
    """Return the project's newest export of each kind that an engine opens, such as openvino-int8."""
    found: dict[str, Model] = {}
    for item in project.store.artifacts("compress"):
        kind = str(item.origin.settings.get("export", ""))
        if kind and kind not in found and kind not in FOR_GPU_SERVERS and item.path.is_dir():
            found[kind] = Model(kind, item.path, item.facts["format"], item.facts["weights"], artifact_id=item.id)
    return found


def _check_all(rows: Iterable[EngineRow], own: Mapping[str, Model], progress: Progress) -> list[EngineRow]:
    rows = list(rows)
    checked = []
    with progress.task("Asking each engine", total=len(rows)) as bar:
        for row in rows:
            bar.note(row.name)
            tried = None
            if row.works:
                try:
                    tried = asyncio.run(_try(row, _model_for(row, own, progress)))
                except VivaceError as error:
                    tried = Tried(error=str(error))
            checked.append(msgspec.structs.replace(row, tried=tried))
            bar.advance()
    return checked


def _model_for(row: EngineRow, own: Mapping[str, Model], progress: Progress) -> Model:
    """Return the project's newest export that the engine opens, else a tiny model made for the purpose."""
    if row.name == "echo":
        return Model("no model", cache_root(), "echo", "none")
    for kind, model in own.items():
        if model.format in row.opens:
            return msgspec.structs.replace(model, name=f"the project's {kind} ({model.artifact_id[:12]})")
    folder = cache_root() / "tiny"
    made = folder / "hf"
    if not (made / "model.safetensors").is_file():
        tiny_model(made)
    name = "a tiny model without sense"
    if "hf" in row.opens:
        return msgspec.structs.replace(identify(made), name=name)
    kind = next(kind for kind in row.opens if kind in TINY_EXPORTS)
    exported = folder / TINY_EXPORTS[kind]
    if not exported.is_dir():
        from vivace.compress import export

        part = exported.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        export(identify(made), TINY_EXPORTS[kind], part, progress)
        part.rename(exported)
    return msgspec.structs.replace(identify(exported), name=name)


async def _try(row: EngineRow, model: Model) -> Tried:
    sampling = Sampling(max_tokens=CHECK_TOKENS, ignore_eos=True)
    return await _one_answer(open_engine(row.name, model, threads=engine_threads()), model.name, sampling)


async def _one_answer(opening: AbstractAsyncContextManager[Any], model: str, sampling: Sampling) -> Tried:
    request = Request("check", (Message("user", QUESTION),), sampling=sampling)
    began = time.perf_counter()
    async with asyncio.timeout(CHECK_S), opening as engine:
        loaded = time.perf_counter()
        first = 0.0
        last: Chunk | None = None
        answers: AsyncGenerator[Chunk, None] = engine(request)
        async with aclosing(answers) as chunks:
            async for chunk in chunks:
                if not first and (chunk.text or chunk.token_ids):
                    first = time.perf_counter()
                last = chunk
        ended = time.perf_counter()
    usage = last.usage if last is not None else None
    return Tried(
        model, loaded - began, (first - loaded) * 1e3 if first else 0.0, ended - loaded,
        usage.prompt_tokens if usage else 0, usage.completion_tokens if usage else 0,
    )  # fmt: skip


def _provider_row(name: str, settings: ProviderSettings) -> ProviderRow:
    host = urlsplit(settings.url).netloc
    told = f"{settings.engine} protocol, {settings.model} at {host}"
    if find_spec("aiohttp") is None:
        return ProviderRow(name, ready=False, detail=f'{told}; aiohttp is missing: pip install "vivace[remote]"')
    key = settings.api_key.removeprefix("env:")
    if key and not os.environ.get(key):
        return ProviderRow(name, ready=False, detail=f"{told}; the environment variable {key} is not set")
    return ProviderRow(name, ready=True, detail=told)


def _ask_provider(row: ProviderRow, settings: ProviderSettings, progress: Progress) -> ProviderRow:
    from vivace.engines.remote import open_remote, save_provider

    if not row.ready:
        return row
    with progress.task(f"Asking {row.name} one question"):
        try:
            model = save_provider(row.name, settings, cache_root() / "asked" / row.name)
            sampling = Sampling(max_tokens=CHECK_TOKENS)
            tried = asyncio.run(_one_answer(open_remote(settings.engine, model), settings.model, sampling))
        except VivaceError as error:
            tried = Tried(settings.model, error=str(error))
        except TimeoutError:
            tried = Tried(settings.model, error=f"It did not answer within {CHECK_S:g} s.")
    return msgspec.structs.replace(row, tried=tried)


def _version(library: str) -> str:
    try:
        return version(library.replace("_", "-"))
    except PackageNotFoundError:
        return "?"
