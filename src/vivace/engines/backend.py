"""What an engine's own file provides, and the table of engines."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from msgspec import Struct

from vivace.domain import ModelFormat
from vivace.engines.frames import Add, Load, Score
from vivace.errors import EngineError
from vivace.registry import Registry

ENGINES = Registry(
    "engine",
    {
        "echo": "vivace.engines.echo:EchoBackend",
        "transformers": "vivace.engines.transformers:TransformersBackend",
        "openvino": "vivace.engines.openvino:OpenVinoBackend",
        "onnxruntime": "vivace.engines.onnxruntime:OnnxRuntimeBackend",
        "llamacpp": "vivace.engines.llamacpp:LlamaCppBackend",
    },
)

_DEFAULTS: Mapping[ModelFormat, str] = {
    "hf": "transformers",
    "adapter": "transformers",
    "openvino": "openvino",
    "onnx": "onnxruntime",
    "gguf": "llamacpp",
    "echo": "echo",
}

INSTALL_LOOP = 'Install it with: pip install "vivace[loop]"'


class Likelihoods(list[float]):
    """The log-probability of each token of one answer; `greedy` says which tokens are the likeliest at their place."""

    def __init__(self, logprobs: Iterable[float], greedy: Iterable[bool] = ()) -> None:
        super().__init__(logprobs)
        self.greedy = list(greedy)


class Traits(Struct, frozen=True):
    """What an engine can do beyond answering; an engine without them says nothing of itself.

    `batching` is how requests that come together are answered: step by step together (`continuous`), each in turn for
    a token (`turns`), or those that wait as one (`static`).
    """

    batching: Literal["continuous", "turns", "static", "unknown"] = "unknown"
    prefix_cache: bool = False
    likelihood: bool = False
    constrained: bool = False
    embeddings: bool = False
    repeats_by_seed: bool = False
    devices: tuple[str, ...] = ("CPU",)


Emit = Callable[..., None]
"""emit(id, ids, finish=None, cached_tokens=0): send new tokens of one answer to the parent."""
Poll = Callable[[], None]
"""poll(): take the commands that wait; a backend whose step is long calls it now and then."""


class Backend(Protocol):
    """Generates tokens from tokens, inside the engine's process, on its main thread.

    Constructing it opens the model. A request is `add`ed, advances with each `step` together with all others, and ends
    when its finish was emitted or when it was cancelled. What `add` and `score` raise fails that request alone; what
    `step` raises ends the process. It may tell its `traits: ClassVar[Traits]`.
    """

    formats: ClassVar[frozenset[str]]
    options: ClassVar[frozenset[str]]
    libraries: ClassVar[tuple[str, ...]]
    facts: dict[str, Any]

    def __init__(self, load: Load) -> None: ...

    @property
    def busy(self) -> bool:
        """Whether any request is in work or waiting."""
        ...

    def add(self, request: Add) -> None:
        """Take a request in."""
        ...

    def cancel(self, request_id: int) -> None:
        """Forget a request at once; one that is unknown or finished is no error."""
        ...

    def step(self, emit: Emit, poll: Poll) -> None:
        """Advance the requests in work by at least one token."""
        ...

    def score(self, requests: Sequence[Score]) -> Sequence[list[float]]:
        """Return, per request, the log-probability of each answer token, as `Likelihoods` where more is known."""
        ...


def default_engine(model_format: ModelFormat) -> str:
    """Return the name of the engine for a model format; raises `EngineError` for one that none opens."""
    if model_format not in _DEFAULTS:
        raise EngineError(
            f"No engine opens a model in format {model_format!r}.",
            "Name the model in `models.base`: a GGUF file is converted when it is the base.",
        )
    return _DEFAULTS[model_format]


def one_sentence(error: BaseException) -> str:
    """Return what an exception of a native library says, without its source lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '", "While validating"))]
    text = (telling or lines or [type(error).__name__])[0]
    return f"{text[:300].rstrip('.:')}."
