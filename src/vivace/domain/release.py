"""What may be served, what was asked of it, and why it was or was not chosen."""

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from vivace.domain.artifact import Model
from vivace.domain.score import Comparison, Score

# After MLPerf: the limits of time to first token and time per output token, in ms.
SERVICE_LEVELS: dict[str, tuple[float, float]] = {"interactive": (500.0, 30.0), "conversational": (2000.0, 100.0)}


class Candidate(Struct, frozen=True):
    """A model on an engine behind a stack of layers: everything that decides how it answers.

    `chain` is the recipe of the layers (`vivace.chain.stack`), the same in evaluation, bench, release and serving.
    """

    name: str
    engine: str
    model: Model
    chain: dict[str, Any] = field(default_factory=dict)
    role: str = "candidate"  # "baseline" for the untouched base model


class Latency(Struct, frozen=True):
    """Latencies in ms at p50, p95 and p99, each with its interval; older reports have no p99."""

    p50_ms: Score
    p95_ms: Score
    p99_ms: Score | None = None


class Speed(Struct, frozen=True):
    """What the bench measured of one candidate; rates are tokens or requests per second."""

    ttft: Latency
    tpot: Latency
    e2e: Latency
    output_tokens_per_s: float
    requests_per_s: float
    goodput_fraction: float
    peak_memory_bytes: int
    load_s: float
    completed: int
    failed: int


class Objective(Struct, frozen=True):
    """The user's service level.

    Latencies are p95 in ms, None means the service level's own; `max_degradation` is a fraction of the best quality.
    """

    service_level: Literal["interactive", "conversational", "none"] = "conversational"
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    quality_metric: str = "token_f1"
    max_degradation: float = 0.02
    max_size_bytes: int | None = None
    max_memory_bytes: int | None = None
    must_beat_base: bool = True


class Reason(Struct, frozen=True):
    """One requirement of the objective, whether it was met, and the figures; `miss` is the relative shortfall."""

    requirement: str
    met: bool
    detail: str
    miss: float = 0.0


class Verdict(Struct, frozen=True):
    """Whether a candidate meets the objective, with reasons."""

    candidate: str
    accepted: bool
    reasons: tuple[Reason, ...]


class Scorecard(Struct, frozen=True):
    """Everything measured about one candidate; `findings` are requirements judged where they were measured."""

    candidate: Candidate
    size_bytes: int
    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...] = ()
    speed: Speed | None = None
    verdict: Verdict | None = None
    findings: tuple[Reason, ...] = ()


class Release(Struct, frozen=True):
    """An immutable folder that can be served: `path` holds `release.json`, `model/`, `scorecard.json`, `recipe.toml`.

    `id` is the hash of the folder's content; `candidate.model.path` is `path / "model"`.
    `test_sha256` is the hash of the test examples' lines in the dataset that the scores are from.
    """

    id: str
    name: str
    path: Path
    candidate: Candidate
    scorecard: Scorecard
    parents: tuple[str, ...] = ()
    test_sha256: str = ""
