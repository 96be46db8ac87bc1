"""Tool calls: are the right tools called with the right arguments, whatever format the model's template writes?

Read are the formats of Hermes and Qwen (`<tool_call>`), Llama 3 (a JSON object with `parameters`, several separated by
semicolons) and Mistral (`[TOOL_CALLS]`), and the same JSON without its marks, which engines leave out of their text
where they are special tokens.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from vivace.domain import FunctionCall
from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric, Scope
from vivace.stats import Floats, mean_rows

_HERMES = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_MISTRAL = "[TOOL_CALLS]"
_MISTRAL_NAMED = re.compile(r"\s*([A-Za-z0-9_.\-]+)\s*(?:\[CALL_ID\]\w+\s*)?(?:\[ARGS\])?\s*(?=\{)")
_LLAMA = "<|python_tag|>"
_ARGUMENTS = ("arguments", "parameters")
_DECODER = json.JSONDecoder()


def parse_calls(text: str) -> list[FunctionCall]:
    """Return the tool calls that an answer consists of or holds between marks; none where it is plain text."""
    if "<tool_call>" in text:
        return [call for part in _HERMES.findall(text) for call in _read(part)]
    if _MISTRAL in text:
        return [call for part in text.split(_MISTRAL)[1:] for call in _mistral(part)]
    return _read(text.partition(_LLAMA)[2] if _LLAMA in text else text)


def same_calls(first: Sequence[FunctionCall], second: Sequence[FunctionCall]) -> bool:
    """Tell whether both call the same tools with the same arguments, in whatever order."""
    return sorted(map(_told, first)) == sorted(map(_told, second))


def _read(text: str) -> list[FunctionCall]:
    """Return the calls that a text is made of: JSON objects, or lists of them, separated by semicolons or space."""
    calls: list[FunctionCall] = []
    rest = text.strip()
    while rest:
        try:
            value, end = _DECODER.raw_decode(rest)
        except (ValueError, RecursionError):
            return []
        items = value if isinstance(value, list) else [value]
        found = [call for item in items if (call := _call(item)) is not None]
        if len(found) < len(items):
            return []
        calls += found
        rest = rest[end:].lstrip("; \t\r\n")
    return calls


def _mistral(part: str) -> list[FunctionCall]:
    """Return the calls after one mark: a list of objects, or a name and then its arguments."""
    named = _MISTRAL_NAMED.match(part)
    if named is None:
        return _read(part)
    try:
        arguments, _ = _DECODER.raw_decode(part, named.end())
    except (ValueError, RecursionError):
        return []
    return [FunctionCall(named[1], _text(arguments))]


def _call(item: Any) -> FunctionCall | None:
    if isinstance(item, dict) and isinstance(item.get("function"), dict):
        item = item["function"]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return None
    key = next((key for key in _ARGUMENTS if key in item), None)
    return None if key is None else FunctionCall(item["name"], _text(item[key]))


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _told(call: FunctionCall) -> tuple[str, str]:
    """Return a call as text that is equal for equal calls."""
    value: Any = call.arguments.strip() or "{}"
    for _ in range(2):  # templates write arguments that are no object as a string within a string
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                break
    value = {} if value is None else value
    return call.name, json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    """Return JSON in which 1 and 1.0 are the same number."""
    match value:
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case float() if value.is_integer():
            return int(value)
    return value


def _scope(answers: Sequence[Answer]) -> Scope:
    calling = [each for each in answers if each.wanted_calls]
    reasons = sorted({each.calls_error for each in calling if each.calls_error})
    return Scope(
        [each for each in calling if not each.calls_error],
        reasons[0] if reasons else "No reference calls a tool." if not calling else "",
    )


def _right(answer: Answer) -> float:
    wanted = [call.function for call in answer.wanted_calls]
    return float(not answer.failed and same_calls(parse_calls(answer.answer), wanted))


def _named(answer: Answer) -> float:
    wanted = sorted(call.function.name for call in answer.wanted_calls)
    return float(not answer.failed and sorted(call.name for call in parse_calls(answer.answer)) == wanted)


def _rows(answers: Sequence[Answer]) -> Floats:
    return mean_rows([_right(each) for each in answers])


def _name_rows(answers: Sequence[Answer]) -> Floats:
    return mean_rows([_named(each) for each in answers])


_FORMATS = "formats:hermes,llama3,mistral|order:free|average:examples"
ACCURACY = Metric(
    "tool_call_accuracy", _rows, lambda: f"match:name,arguments|{_FORMATS}", proportion=True, scope=_scope
)
NAMES = Metric(
    "tool_name_accuracy",
    _name_rows,
    lambda: f"match:name|{_FORMATS}",
    compared=False,
    proportion=True,
    scope=_scope,
)
