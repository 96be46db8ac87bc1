"""The tables `[[evaluate.graders]]` of `vivace.toml`, in the shape of OpenAI's graders."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vivace.config.table import Count, Table

GraderName = Annotated[str, Field(pattern=r"^\w[\w .:/()+-]{0,62}$")]
Threshold = Annotated[float, Field(allow_inf_nan=False)] | None
Similarity = Literal[
    "fuzzy_match",
    "bleu",
    "gleu",
    "meteor",
    "cosine",
    "rouge_1",
    "rouge_2",
    "rouge_3",
    "rouge_4",
    "rouge_5",
    "rouge_l",
]


class GraderMessage(Table):
    """One turn that a grading model is asked with."""

    role: Literal["system", "developer", "user", "assistant"]
    """Who says it."""
    content: str
    """What is said, with {{ item.… }} and {{ sample.… }} filled in; also a list of text parts."""
    type: Literal["message"] = "message"
    """Always message."""

    @field_validator("content", mode="before")
    @classmethod
    def _parts_are_text(cls, content: Any) -> Any:
        """Join text parts, as OpenAI nests them."""
        parts = content if isinstance(content, list) else [content]
        texts = []
        for part in parts:
            if isinstance(part, dict):
                if part.get("type") not in ("input_text", "output_text", "text"):
                    raise ValueError(f"a part of type {part.get('type')!r} is not text, and no engine here reads it")
                part = part.get("text")
            if not isinstance(part, str):
                raise ValueError("content is a text, a text part or a list of them")
            texts.append(part)
        return "\n".join(texts)


class GraderSampling(Table):
    """How a grading model answers."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """0 is greedy: the same grade each time."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the likeliest tokens that are drawn from."""
    seed: int | None = None
    """Seed of what is drawn."""
    max_completions_tokens: Count = 256
    """Longest answer of the grading model in tokens."""
    reasoning_effort: str | None = None
    """OpenAI's; models on this machine have no such setting, so it changes nothing."""


class StringCheckGrader(Table):
    """1 where two texts compare as said, 0 where not."""

    type: Literal["string_check"]
    """Always string_check."""
    name: GraderName
    """Name of the metric."""
    input: str
    """The text to look at, mostly {{ sample.output_text }}."""
    reference: str
    """The text to compare it with, mostly {{ item.reference }}."""
    operation: Literal["eq", "ne", "like", "ilike"]
    """eq and ne: equal or not; like: the input holds the reference; ilike: the same, upper and lower case aside."""


class TextSimilarityGrader(Table):
    """How alike two texts are, from 0 to 1."""

    type: Literal["text_similarity"]
    """Always text_similarity."""
    name: GraderName
    """Name of the metric."""
    input: str
    """The text to grade, mostly {{ sample.output_text }}."""
    reference: str
    """The text to compare it with, mostly {{ item.reference }}."""
    evaluation_metric: Similarity
    """What likeness is."""
    pass_threshold: Threshold = None
    """From this grade on an answer passes; the share that does is a metric of its own."""


class ScoreModelGrader(Table):
    """A grade that a model gives."""

    type: Literal["score_model"]
    """Always score_model."""
    name: GraderName
    """Name of the metric."""
    model: str
    """Who grades: base, tuned, a model's name or folder."""
    input: Annotated[list[GraderMessage], Field(min_length=1)]
    """What the model is asked with."""
    range: Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)] = [0.0, 1.0]
    """Lowest and highest grade; any other is no grade."""
    sampling_params: GraderSampling = GraderSampling()
    """How the model answers."""
    pass_threshold: Threshold = None
    """From this grade on an answer passes; the share that does is a metric of its own."""

    @field_validator("range")
    @classmethod
    def _low_is_lower(cls, bounds: list[float]) -> list[float]:
        if not bounds[0] < bounds[1]:
            raise ValueError("the first bound must be below the second")
        return bounds


class LabelModelGrader(Table):
    """1 where a model gives a label that passes, 0 where another."""

    type: Literal["label_model"]
    """Always label_model."""
    name: GraderName
    """Name of the metric."""
    model: str
    """Who grades: base, tuned, a model's name or folder."""
    input: Annotated[list[GraderMessage], Field(min_length=1)]
    """What the model is asked with."""
    labels: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)]
    """Labels to choose from."""
    passing_labels: Annotated[list[str], Field(min_length=1)]
    """Labels that pass."""
    sampling_params: GraderSampling = GraderSampling()
    """How the model answers."""

    @model_validator(mode="after")
    def _passing_are_labels(self) -> "LabelModelGrader":
        strange = [label for label in self.passing_labels if label not in self.labels]
        if strange:
            raise ValueError(f"passing_labels has {strange[0]!r}, which is not in labels")
        return self


class PythonGrader(Table):
    """A grade from a function of yours, run in a sandbox."""

    type: Literal["python"]
    """Always python."""
    name: GraderName
    """Name of the metric."""
    source: str
    """Python with a function grade(sample, item) that returns a number."""
    image_tag: str | None = None
    """OpenAI's container image; here it is the Python that Vivace runs on, whatever this says."""
    pass_threshold: Threshold = None
    """From this grade on an answer passes; the share that does is a metric of its own."""


SingleGrader = Annotated[
    StringCheckGrader | TextSimilarityGrader | ScoreModelGrader | LabelModelGrader | PythonGrader,
    Field(discriminator="type"),
]


class MultiGrader(Table):
    """A grade computed from those of several graders."""

    type: Literal["multi"]
    """Always multi."""
    name: GraderName
    """Name of the metric."""
    graders: Annotated[dict[str, SingleGrader], Field(min_length=1)]
    """The graders, each under the word that stands for it in the formula; in a list their names are."""
    calculate_output: Annotated[str, Field(max_length=1000)]
    """A formula: + - * / ^, parentheses, min, max, abs, floor, ceil, exp, sqrt and log."""
    pass_threshold: Threshold = None
    """From this grade on an answer passes; the share that does is a metric of its own."""

    @field_validator("graders", mode="before")
    @classmethod
    def _words_for_graders(cls, graders: Any) -> Any:
        """Take a list, or a single grader, for a table by name."""
        if isinstance(graders, dict) and isinstance(graders.get("type"), str):
            graders = [graders]
        if not isinstance(graders, list):
            return graders
        named = {each.get("name", ""): each for each in graders if isinstance(each, dict)}
        if len(named) < len(graders):
            raise ValueError("two graders share a name, or one is no table")
        return named


GraderSettings = Annotated[
    StringCheckGrader | TextSimilarityGrader | ScoreModelGrader | LabelModelGrader | PythonGrader | MultiGrader,
    Field(discriminator="type"),
]
"""One grader, in the shape of OpenAI's."""
