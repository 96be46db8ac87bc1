"""`vivace.toml` as models: one per table; the text under a field is its help everywhere."""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vivace.config.data import DataSettings
from vivace.config.engines import EnginesSettings
from vivace.config.evaluate import EvaluateSettings
from vivace.config.parity import ParitySettings
from vivace.config.plan import Export, PlanSettings
from vivace.config.providers import ProviderName, ProviderSettings
from vivace.config.prune import PruneSettings
from vivace.config.quantize import QuantizeSettings
from vivace.config.table import Count, Fraction, Table
from vivace.config.train import TrainSettings
from vivace.config.trim import TrimSettings


class ProjectSettings(Table):
    """Who the chatbot is."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "chatbot"
    """Name of the project and of the served model: lower-case letters, digits and hyphens."""
    system: str = ""
    """System prompt: used in training, evaluation, bench and serving alike. Empty: none is sent."""


class ModelsSettings(Table):
    """Which model everything starts from."""

    base: str = "smollm2-135m-instruct"
    """A name from `vivace models list`, a Hugging Face name, or a model folder."""
    revision: str = "main"
    """Revision of a Hugging Face model."""
    providers: dict[ProviderName, ProviderSettings] = {}
    """Models that other servers run, each a table [models.providers.NAME]; see docs/engines.md."""

    @field_validator("providers")
    @classmethod
    def _names_are_free(cls, providers: dict[str, ProviderSettings]) -> dict[str, ProviderSettings]:
        if taken := sorted(providers.keys() & {"base", "tuned", "pruned", "release"}):
            raise ValueError(f"{taken[0]} means something else already: name the provider otherwise")
        return providers


class CompressSettings(Table):
    """Which exports of the tuned model become candidates."""

    exports: list[Export] = ["openvino-int8", "onnx-int4"]
    """Format and weights of each candidate."""
    reference: bool = False
    """Also evaluate the merged model in transformers (slow; the reference all exports are compared with)."""
    trim: TrimSettings = TrimSettings()
    """A smaller vocabulary."""
    prune: PruneSettings = PruneSettings()
    """Leave out layers, heads, channels or single weights that the domain does not need."""
    quantize: QuantizeSettings = QuantizeSettings()
    """How 4-bit exports find their scales."""
    plans: list[PlanSettings] = []
    """Further plans, each a table [[compress.plans]]; `vivace compress --speedup 2` finds one."""

    @field_validator("plans")
    @classmethod
    def _plans_differ(cls, plans: list[PlanSettings]) -> list[PlanSettings]:
        names = [plan.name for plan in plans]
        taken = sorted({name for name in names if names.count(name) > 1 or name in ("base", "tuned", "pruned")})
        if taken:
            raise ValueError(f"two plans cannot share a name, and base, tuned and pruned are taken ({taken[0]})")
        return plans

    @property
    def every_plan(self) -> tuple[PlanSettings, ...]:
        """The tuned model as it is, pruned where [compress.prune] asks for it, and the further plans."""
        own = [PlanSettings(name="tuned", trim=self.trim)]
        if self.prune.is_on:
            own.append(PlanSettings(name="pruned", prune=self.prune, trim=self.trim))
        return (*own, *self.plans)

    def exports_of(self, plan: PlanSettings) -> list[Export]:
        """Return what a plan is exported to."""
        return self.exports if plan.exports is None else plan.exports


class BenchSettings(Table):
    """How speed is measured."""

    requests: Count = 8
    """Requests per candidate and block in the closed loop."""
    concurrency: Count = 8
    """Requests at once in the closed loop."""
    blocks: Count = 2
    """Interleaved blocks (A/B, B/A …)."""
    open_requests: Count = 8
    """Requests per candidate in the open loop, where the baseline takes no part."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Requests per second in the open loop. Empty: half of what the closed loop completed."""
    arrivals: Literal["poisson", "gamma", "constant", "trace"] = "poisson"
    """When requests of the open loop come: as from independent users, in bursts, evenly, or as a trace recorded."""
    variation: Annotated[float, Field(gt=0, le=20)] = 2.0
    """Coefficient of variation of the gaps between gamma arrivals: 1 is Poisson, more comes in bursts."""
    trace: str = ""
    """File of recorded requests for arrivals = "trace": their times, lengths and shared beginnings."""
    speed_up: Annotated[float, Field(gt=0)] | None = None
    """How many times faster than recorded a trace is replayed. Empty: at `rate`, or for a server as recorded."""
    max_tokens: Count = 80
    """Longest answer in tokens, where answers end by themselves."""
    fixed_tokens: Count = 24
    """Length of every answer in tokens, where all do the same work."""
    service_level: Literal["interactive", "conversational"] = "conversational"
    """Service level that goodput is the share of: see `release.service_level`."""
    baseline: bool = True
    """Also measure the untouched base model in transformers."""
    seed: int = 0
    """Seed of arrivals and of the choice of prompts."""


class ReleaseSettings(Table):
    """The objective: what a release must keep."""

    service_level: Literal["interactive", "conversational", "none"] = "conversational"
    """Named service level, after MLPerf: interactive (TTFT 500 ms, TPOT 30 ms), conversational (2,000 ms, 100 ms)."""
    ttft_ms: Annotated[float, Field(gt=0)] | None = None
    """p95 time to the first token, instead of the service level's."""
    tpot_ms: Annotated[float, Field(gt=0)] | None = None
    """p95 time per output token, instead of the service level's."""
    quality_metric: str = "token_f1"
    """The metric the gate looks at: any of `vivace evaluate` where more is better, or a grader or function of yours."""
    max_degradation: Fraction = 0.05
    """How much of the best candidate's quality a smaller or faster one may lose."""
    must_beat_base: bool = True
    """Refuse a candidate that is not significantly better than the base on `quality_metric`."""
    slices_must_hold: bool = True
    """Refuse a candidate that is worse than the base in a slice of the test examples, beyond chance."""
    must_not_regress: bool = True
    """Refuse a candidate that is worse than the newest release on the same test examples, beyond chance."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    """Largest model folder, in MB (10^6 bytes)."""
    max_memory_mb: Annotated[float, Field(gt=0)] | None = None
    """Largest peak memory of the engine's process, in MB."""


class ServeSettings(Table):
    """How the released model is offered."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs `api_keys`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    api_keys: list[str] = []
    """Keys clients must send, each as env:NAME. Empty: no key needed, loopback only."""
    max_queue: Count = 64
    """Requests in work or waiting; one more is answered 503 with Retry-After."""
    max_body_bytes: Count = 1_000_000
    """Largest request body."""
    max_tokens: Count = 512
    """Answer length when the client names none."""
    threads: Count | None = None
    """Threads of the engine. Empty: the machine's cores."""

    @field_validator("api_keys")
    @classmethod
    def _keys_are_references(cls, keys: list[str]) -> list[str]:
        for key in keys:
            if not key.startswith("env:") or len(key) == 4:
                raise ValueError("write keys as env:NAME, never as values")
        return keys


class Settings(BaseSettings):
    """All of `vivace.toml`; an environment variable such as VIVACE_TRAIN__MAX_TOKENS wins over the file."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="VIVACE_", env_nested_delimiter="__", env_ignore_empty=True
    )

    project: ProjectSettings = ProjectSettings()
    models: ModelsSettings = ModelsSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    compress: CompressSettings = CompressSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    parity: ParitySettings = ParitySettings()
    bench: BenchSettings = BenchSettings()
    release: ReleaseSettings = ReleaseSettings()
    serve: ServeSettings = ServeSettings()
    engines: EnginesSettings = EnginesSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        return env_settings, init_settings
