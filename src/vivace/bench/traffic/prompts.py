"""What a server under load is asked: prompts of a file, of the project, of a given length, or of a trace's lengths."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.bench.traffic.lengths import Meter, Prose, prompt, replayed
from vivace.bench.traffic.traces import Recorded
from vivace.domain import Example, Message, Request, Sampling
from vivace.errors import DataError

_HINT = 'A row is {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}, with "max_tokens" if you like.'


class Work(Struct, frozen=True):
    """What is asked: `requests(count, prefix)` returns so many, with ids that begin with `prefix`.

    `input_tokens` is the mean length that was asked for, where one was; `note` is what the report must say of it.
    """

    kind: str
    told: str
    requests: Callable[[int, str], list[Request]]
    input_tokens: float | None = None
    note: str = ""


def of_file(path: Path, max_tokens: int, *, ignore_eos: bool = False) -> Work:
    """Return the prompts of a JSONL file; raises `DataError` naming the first line that is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text.", _HINT) from None
    except OSError as error:
        raise DataError(f"The prompts {path} cannot be read: {error.strerror}.") from None
    sampling = Sampling(max_tokens=max_tokens, ignore_eos=ignore_eos)
    pool = [_request(line, f"{path.name}:{number}", sampling) for number, line in enumerate(lines, 1) if line.strip()]
    if not pool:
        raise DataError(f"{path} holds no prompt.", _HINT)
    return _pooled("prompts", f"{len(pool):,} prompts of {path.name}", pool)


def of_examples(examples: Sequence[Example], max_tokens: int, system: str = "", *, ignore_eos: bool = False) -> Work:
    """Return the project's test conversations, its system prompt first."""
    if not examples:
        raise DataError("There is no test example to bench with.", "Add conversations, or name --prompts FILE.")
    sampling = Sampling(max_tokens=max_tokens, ignore_eos=ignore_eos)
    pool = []
    for example in examples:
        told = any(message.role in ("system", "developer") for message in example.prompt)
        before = (Message("system", system),) if system and not told else ()
        pool.append(Request(example.id, before + example.prompt, sampling=sampling))
    return _pooled("prompts", f"{len(pool):,} test conversations of the project", pool)


def of_length(prose: Prose, meter: Meter, input_tokens: int, output_tokens: int, *, ignore_eos: bool = False) -> Work:
    """Return prompts of one length, each of another text, so that no cache knows them."""
    sampling = Sampling(max_tokens=output_tokens, ignore_eos=ignore_eos)

    def requests(count: int, prefix: str) -> list[Request]:
        names = [f"{prefix}/{number}" for number in range(count)]
        return [Request(name, prompt(prose, meter, input_tokens, name), sampling=sampling) for name in names]

    told = f"synthetic prompts of about {input_tokens:,} tokens, answers of at most {output_tokens:,}"
    return Work("synthetic", told, requests, input_tokens)


def of_trace(
    recorded: Sequence[Recorded], prose: Prose, meter: Meter, name: str, too_long: int, *, ignore_eos: bool = False
) -> Work:
    """Return the requests of a trace in its order; more than it has begin it anew."""

    def requests(count: int, prefix: str) -> list[Request]:
        chosen = [recorded[number % len(recorded)] for number in range(count)]
        return replayed(chosen, prose, meter, prefix, ignore_eos=ignore_eos)

    note = (
        f"{too_long:,} requests of the trace were passed over, as they are longer than the context." if too_long else ""
    )
    mean = sum(each.input_tokens for each in recorded) / len(recorded)
    return Work("trace", f"the lengths and beginnings of the requests in {name}", requests, mean, note)


def _pooled(kind: str, told: str, pool: Sequence[Request]) -> Work:
    def requests(count: int, prefix: str) -> list[Request]:
        return [msgspec.structs.replace(pool[number % len(pool)], id=f"{prefix}/{number}") for number in range(count)]

    return Work(kind, told, requests)


def _request(line: str, place: str, sampling: Sampling) -> Request:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise DataError(f"{place} is no JSON object.", _HINT)
    text = row.get("prompt")
    try:
        messages = (
            (Message("user", text),)
            if isinstance(text, str) and text.strip()
            else msgspec.convert(row.get("messages"), tuple[Message, ...])
        )
    except msgspec.ValidationError:
        messages = ()
    while messages and messages[-1].role == "assistant":
        messages = messages[:-1]  # the reference answer of a training row
    if not messages:
        raise DataError(f"{place} holds no prompt.", _HINT)
    longest = row.get("max_tokens", sampling.max_tokens)
    if not isinstance(longest, int) or isinstance(longest, bool) or longest < 1:
        raise DataError(f"{place}: max_tokens is {longest!r}, not a number of tokens.", _HINT)
    return Request(place, messages, sampling=msgspec.structs.replace(sampling, max_tokens=longest))
