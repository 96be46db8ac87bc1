"""The table `[evaluate]` of `vivace.toml`."""

from typing import Annotated

from pydantic import Field

from vivace.config.ethics import EthicsSettings
from vivace.config.general import GeneralSettings
from vivace.config.grader import GraderSettings
from vivace.config.judge import JudgeSettings
from vivace.config.scales import ScalesSettings
from vivace.config.table import Count, Table


class EvaluateSettings(Table):
    """How it is decided what is right."""

    max_examples: Count = 120
    """At most so many test examples are answered."""
    max_tokens: Count = 80
    """Longest answer in tokens."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """0 is greedy: the same answer each time."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of the intervals."""
    resamples: Count = 2000
    """Bootstrap and permutation resamples."""
    concurrency: Count = 16
    """Requests sent to the engine at once."""
    likelihood: bool = True
    """Also ask how likely the references are (loss, perplexity, token accuracy); without it, evaluating is faster."""
    seed: int = 0
    """Seed of resampling."""
    slice_by: list[str] = ["intent", "language", "group", "turn"]
    """Labels of the examples that quality is told by, `turn` for the turn that is answered; always by length, too."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """What one model may lose to another and still be called as good: a share of the metric's scale (0.01 is a point of
    token F1 or BLEU), or of its unit where it has no end (0.01 nats of loss)."""
    graders: list[GraderSettings] = []
    """Metrics of your own, in the shape of OpenAI's graders, each a table [[evaluate.graders]]."""
    graders_file: str | None = None
    """A JSON file of the project with graders in OpenAI's shape, besides [[evaluate.graders]]."""
    own: list[str] = []
    """Metrics of your own, each file.py:function; the function gets (answer, reference, example)."""
    judge: JudgeSettings = JudgeSettings()
    """A model that judges answers."""
    ethics: EthicsSettings = EthicsSettings()
    """Bias, harm and leaks."""
    general: GeneralSettings = GeneralSettings()
    """What a model can besides its domain."""
    scales: ScalesSettings = ScalesSettings()
    """Several sizes of model."""
