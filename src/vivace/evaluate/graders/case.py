"""What a grader looks at: one example as OpenAI's `item`, and what was answered as `sample`."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from vivace.domain import Message
from vivace.evaluate.answers import Answer
from vivace.evaluate.metrics.json_validity import read_json
from vivace.evaluate.metrics.tool_call import parse_calls

Grade = float | str
"""A number, or the sentence that says why there is none."""


class Case(Struct, frozen=True):
    """One example and its answer, as templates and functions see them; a failed answer is not graded at all."""

    id: str
    item: dict[str, Any]
    sample: dict[str, Any]
    failed: bool = False


def case_of(answer: Answer) -> Case:
    """Return what graders see of an answer; `sample.output_json` is there where the answer is JSON."""
    sample: dict[str, Any] = {
        "output_text": answer.answer,
        "output_tools": [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in parse_calls(answer.answer)
        ],
        "finish_reason": answer.finish_reason,
    }
    with suppress(ValueError):
        sample["output_json"] = read_json(answer.answer)
    item = item_of(answer.id, answer.prompt, answer.reference, answer.metadata)
    return Case(answer.id, item, sample, answer.failed)


def item_of(example_id: str, prompt: Sequence[Message], reference: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return an example as graders see it: what metadata holds, and over it the names that every example has."""
    return metadata | {
        "id": example_id,
        "messages": msgspec.to_builtins(prompt),
        "question": next((turn.content for turn in reversed(prompt) if turn.role == "user"), ""),
        "reference": reference,
        "metadata": metadata,
    }
