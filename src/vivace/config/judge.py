"""The table `[evaluate.judge]` of `vivace.toml`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from vivace.config.table import Count, Table


class CriterionSettings(Table):
    """One thing an answer is scored for, 1 to 5."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    """What it is called in reports."""
    text: Annotated[str, Field(min_length=1, max_length=2000)]
    """What the judge is told to look at; best with what 1 and 5 mean."""


class JudgeSettings(Table):
    """How answers are judged by a model, and what it is measured on first."""

    model: str = "base"
    """`base`, `tuned`, a provider of [models.providers], or a model's name, folder or GGUF file."""
    engine: str = ""
    """The engine the judge runs on. Empty: the one for the format of its files."""
    export: Literal["none", "openvino-int8", "openvino-fp16", "onnx-int4", "onnx-int8"] = "openvino-int8"
    """What a judge in Hugging Face's format is exported to. none: transformers."""
    read: Literal["auto", "likelihood", "text"] = "auto"
    """`likelihood` asks how likely each verdict is, `text` has the judge write it; `auto` takes likelihoods where the
    engine can tell them."""
    criteria: list[CriterionSettings] = [
        CriterionSettings(
            name="helpfulness",
            text="Does the answer do what the user needs next, correctly and without inventing anything? "
            "1: wrong or useless. 5: nothing to improve.",
        )
    ]
    """What answers are scored for, each a table [[evaluate.judge.criteria]]."""
    max_pairs: Count = 120
    """At most so many pairs of answers are judged, and at most so many human comparisons are asked again."""
    max_ratings: Count = 400
    """At most so many human ratings are asked again."""
    max_chars: Annotated[int, Field(ge=200)] = 2400
    """Of a conversation its last so many characters are shown to the judge, of an answer its first so many."""
    good_from: float = 0.5
    """Ratings in a file of yours count as good from here on; with stars from one to five, 4 for example."""
    within: str = ""
    """A field of the metadata. Ratings are compared only among rows with the same value, so that a judge that merely
    recognizes the topic is not taken for one that recognizes good answers."""
    concurrency: Count = 16
    """Questions sent to the engine at once."""

    @field_validator("criteria")
    @classmethod
    def _distinct(cls, criteria: list[CriterionSettings]) -> list[CriterionSettings]:
        if not criteria:
            raise ValueError("name at least one criterion")
        names = [each.name for each in criteria]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have the same name")
        return criteria
