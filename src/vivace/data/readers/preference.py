"""Preference rows: a prompt, the answer that was liked more and the one that was liked less."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar, cast

from vivace.data.readers.alpaca import history_of
from vivace.data.readers.columns import Slots
from vivace.data.readers.sharegpt import TURNS, turns_of
from vivace.data.readers.turns import BrokenRow, answer_of, messages_of, metadata_of, own_id, read_rows, tools_of
from vivace.data.reading.records import Record, Source
from vivace.data.rows import Raw, Reject
from vivace.domain import Message, Role

_PROMPTS = ("prompt", "question", "query", "input")
_SYSTEMS = ("system", "system_prompt")
_OPENAI = ("input", "preferred_output", "non_preferred_output")
_HH_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):", re.IGNORECASE)
_USED = {
    "prompt",
    "question",
    "query",
    "instruction",
    "chosen",
    "rejected",
    "history",
    "tools",
    "id",
    *_SYSTEMS,
    *TURNS,
}


class Preference:
    """Reads OpenAI's and TRL's rows (explicit or implicit prompt), LLaMA-Factory's, and transcripts with "Human:"."""

    NEEDS = "keys or columns chosen, rejected; or input, preferred_output, non_preferred_output"
    SLOTS: ClassVar[Slots] = {"prompt": _PROMPTS, "chosen": ("chosen",), "rejected": ("rejected",), "system": _SYSTEMS}

    def recognizes(self, source: Source) -> bool:
        """Tell whether the records have an answer liked more and one liked less."""
        keys = set(source.keys)
        return {"chosen", "rejected"} <= keys or set(_OPENAI) <= keys

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield each prompt with the answer liked more; the other is in `rejected`."""
        yield from read_rows(source, lambda record: _parse(record, source.tags))


READER = Preference()


def _parse(record: Record, tags: dict[str, str]) -> Raw:
    row = record.fields
    if set(_OPENAI) <= row.keys():
        given = row["input"] if isinstance(row["input"], dict) else {"messages": row["input"]}
        prompt = messages_of(given.get("messages"))
        chosen, rejected = answer_of(row["preferred_output"]), answer_of(row["non_preferred_output"])
        tools, used = tools_of(given.get("tools")), {*_OPENAI, "id"}
    else:
        prompt, used = _prompt(row, tags)
        chosen, rejected = (_answer(row, key, tags) for key in ("chosen", "rejected"))
        tools = tools_of(row.get("tools"))
    prompt, chosen, rejected = _apart(prompt, chosen, rejected)
    if not any(message.role == "user" for message in prompt):
        raise BrokenRow("no prompt: chosen and rejected do not begin with the same question")
    if not chosen or not rejected:
        raise BrokenRow("chosen or rejected is no answer")
    return Raw(
        record.line,
        (*prompt, *chosen),
        tools,
        own_id(row.get("id")),
        metadata_of(row, used),
        rejected=rejected,
    )


def _prompt(row: dict[str, Any], tags: dict[str, str]) -> tuple[tuple[Message, ...], set[str]]:
    """Return the turns before the answers, and the keys that hold them."""
    used = _USED | {"input"} if "instruction" in row or not {"prompt", "question", "query"} & row.keys() else _USED
    if any(isinstance(row.get(key), list) for key in TURNS):
        return turns_of(row, tags)[1], used
    system = next((row[key] for key in _SYSTEMS if isinstance(row.get(key), str) and row[key].strip()), "")
    before = [Message("system", system)] if system else []
    before += history_of(row.get("history"))
    if "instruction" in row:
        texts = [text for key in ("instruction", "input") if isinstance(text := row.get(key), str) and text.strip()]
        return (*before, *([Message("user", "\n".join(texts))] if texts else [])), used
    prompt = next((row[key] for key in _PROMPTS if row.get(key)), None)
    if prompt is None:
        return tuple(before), used
    if isinstance(prompt, str):
        return (*before, *(_transcript(prompt) or (Message("user", prompt),))), used
    return (*before, *messages_of(prompt)), used


def _answer(row: dict[str, Any], key: str, tags: dict[str, str]) -> tuple[Message, ...]:
    value = row.get(key)
    if isinstance(value, str):
        return _transcript(value) or answer_of(value)
    if isinstance(value, dict) and not {"role", "content"} <= value.keys():
        return turns_of({"conversations": [value]}, tags)[1]
    return answer_of(value)


def _transcript(text: str) -> tuple[Message, ...]:
    """Return the turns of a text with "Human:" and "Assistant:", none for any other text.

    The form of Bai et al. 2022, "Training a Helpful and Harmless Assistant". An open "Assistant:" at the end is no
    turn.
    """
    pieces = _HH_TURN.split(text)
    if len(pieces) < 3 or pieces[0].strip():
        return ()
    roles = {"human": "user", "assistant": "assistant"}
    turns = [
        Message(cast(Role, roles[name.lower()]), said.strip())
        for name, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    return tuple(turns if turns[-1].content or turns[-1].role == "user" else turns[:-1])


def _apart(
    prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Return the prompt and both answers without it, if they begin with it."""
    if all(any(message.role == "user" for message in turns[:-1]) for turns in (chosen, rejected)):
        shared = 0
        while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
            shared += 1
        system = prompt[:1] if prompt and prompt[0].role == "system" and chosen[0].role != "system" else ()
        prompt, chosen, rejected = (*system, *chosen[:shared]), chosen[shared:], rejected[shared:]
    return prompt, chosen, rejected
