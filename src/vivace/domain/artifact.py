"""Frozen things on disk, and where they came from."""

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

Kind = Literal["dataset", "model", "report", "release"]
ModelFormat = Literal["hf", "adapter", "openvino", "onnx", "gguf", "remote", "echo"]


class Origin(Struct, frozen=True):
    """The stage, settings, code version and environment that made an artifact, and what it was made from."""

    stage: str
    key: str
    settings: dict[str, Any]
    parents: tuple[str, ...]
    code_version: str
    environment: dict[str, str]
    created_at: str
    seconds: float


class Artifact(Struct, frozen=True):
    """A sealed folder: `id` is the SHA-256 of its content; `facts` are what the stage found worth telling."""

    id: str
    kind: Kind
    path: Path
    origin: Origin
    size_bytes: int
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def short_id(self) -> str:
        """The first digits of the id, enough to tell artifacts of a project apart."""
        return self.id[:12]


class Model(Struct, frozen=True):
    """A model folder that an engine can open; `path` is absolute, `weights` is fp32, bf16, int8, int4 …

    `base` is the folder of the model an adapter belongs to.
    """

    name: str
    path: Path
    format: ModelFormat
    weights: str
    base: Path | None = None
    artifact_id: str = ""
    license: str = ""
