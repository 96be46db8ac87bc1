"""A file of human ratings or comparisons, one JSON object a line."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vivace.domain import FunctionCall, Message, ToolCall
from vivace.errors import DataError
from vivace.evaluate.judge.opinions import Row, spoken

ANSWER_KEYS = ("answer", "response", "completion")
RATING_KEYS = ("rating", "reward")
LEFT_KEYS = ("answer_a", "first", "chosen")
RIGHT_KEYS = ("answer_b", "second", "rejected")
GOOD_WORDS = {"up": 1.0, "good": 1.0, "thumbs_up": 1.0, "down": 0.0, "bad": 0.0, "thumbs_down": 0.0}
SIDES = {"a": 1.0, "first": 1.0, "answer_a": 1.0, "b": -1.0, "second": -1.0, "answer_b": -1.0, "tie": 0.0}
_SHAPE = 'A line is {"prompt": …, "answer": …, "rating": …} or {"prompt": …, "answers": [a, b], "preferred": "a"}.'
_ROLES = {"user", "assistant", "system", "tool", "developer"}


def read_ratings(path: Path, good_from: float = 0.5, within: str = "") -> tuple[list[Row], int]:
    """Return the opinions in a file, gzipped or not, and how many rows have no rating.

    A rating is true/false, up/down, or a number of which `good_from` and more is good. Raises `DataError` with the
    line that cannot be used.
    """
    rows, unrated, highest = [], 0, 0.0
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row, rating = _row(_object(line), good_from, within)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}.", _SHAPE) from error
        if row is None:
            unrated += 1
        else:
            rows.append(row)
            highest = max(highest, rating)
    if highest > 1 and good_from <= 1:
        raise DataError(
            f"{path} holds ratings up to {highest:g}, and good_from is {good_from:g}: all of 1 and more would be good.",
            "Say from which rating on an answer is good: good_from in [evaluate.judge], 4 for example.",
        )
    if not rows:
        raise DataError(f"{path} holds no rating.", _SHAPE)
    return rows, unrated


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"There is no file {path}.")
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig").splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}.") from error


def _object(line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} instead of an object")
    return found


def _row(told: Mapping[str, Any], good_from: float, within: str) -> tuple[Row | None, float]:
    prompt = _prompt(told)
    meta = told.get("metadata") if isinstance(told.get("metadata"), dict) else {}
    assert isinstance(meta, dict)
    talk = str(told.get("conversation_id") or meta.get("conversation_id") or "")
    stratum = str(told.get(within, meta.get(within, ""))) if within else ""
    left, right = _first(told, LEFT_KEYS), _first(told, RIGHT_KEYS)
    if isinstance(told.get("answers"), list):
        answers = told["answers"]
        if len(answers) != 2:
            raise ValueError(f"answers holds {len(answers)} answers; two are compared")
        left, right = answers
    if left is not None and right is not None:
        preferred = "first" if "chosen" in told and "preferred" not in told else told.get("preferred")
        if preferred is None:
            return None, 0.0
        if not isinstance(preferred, str) or preferred.casefold() not in SIDES:
            raise ValueError(f'preferred is {preferred!r}; it must be "a", "b" or "tie"')
        lean = SIDES[preferred.casefold()]
        return Row(prompt, _text(left), lean, _text(right), talk, stratum), 0.0
    answer = _first(told, ANSWER_KEYS)
    if answer is None:
        if not prompt or prompt[-1].role != "assistant":
            raise ValueError("there is no answer")
        prompt, answer = prompt[:-1], spoken(prompt[-1])
    rating = _rating(_first(told, RATING_KEYS))
    if rating is None:
        return None, 0.0
    return Row(prompt, _text(answer), 1.0 if rating >= good_from else -1.0, None, talk, stratum), rating


def _prompt(told: Mapping[str, Any]) -> tuple[Message, ...]:
    found = told.get("prompt", told.get("messages", told.get("question")))
    if isinstance(found, str):
        return (Message("user", found),)
    if not isinstance(found, list):
        raise ValueError("there is no prompt, messages or question")
    return tuple(_message(turn) for turn in found)


def _message(turn: Any) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in _ROLES:
        raise ValueError(f"a turn is {str(turn)[:60]!r}, not an object with a role")
    calls = []
    for call in turn.get("tool_calls") or ():
        try:
            calls.append(
                ToolCall(
                    str(call.get("id", "")),
                    FunctionCall(**{key: str(call["function"][key]) for key in ("name", "arguments")}),
                )
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("a tool call has no function with name and arguments") from error
    return Message(turn["role"], _content(turn.get("content")), tool_calls=tuple(calls))


def _content(found: Any) -> str:
    if isinstance(found, list):  # OpenAI's parts
        return "\n".join(str(part.get("text", "")) for part in found if isinstance(part, dict))
    if found is not None and not isinstance(found, str):
        raise ValueError(f"a turn's content is a {type(found).__name__}")
    return found or ""


def _text(answer: Any) -> str:
    if isinstance(answer, list) and len(answer) == 1:  # TRL writes an answer as a list of one message
        answer = answer[0]
    if isinstance(answer, dict):
        return spoken(_message({"role": "assistant"} | answer))
    if not isinstance(answer, str):
        raise ValueError(f"an answer is a {type(answer).__name__}, not text")
    return answer


def _rating(found: Any) -> float | None:
    if found is None:
        return None
    if isinstance(found, str) and found.casefold() in GOOD_WORDS:
        return GOOD_WORDS[found.casefold()]
    if isinstance(found, bool | int | float) and abs(found) < 1e6:
        return float(found)
    raise ValueError(f"rating is {found!r}; it must be true or false, up or down, or a number")


def _first(told: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((told[key] for key in keys if told.get(key) is not None), None)
