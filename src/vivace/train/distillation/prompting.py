"""Prompt baking: the same conversation twice, once after a prompt that only the teacher sees.

Snell et al. 2022, Learning by distilling context, https://arxiv.org/abs/2209.15189.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from vivace.config.distill import DistillSettings
from vivace.domain import Example, Message
from vivace.errors import ConfigError, DataError, ModelError
from vivace.models import ChatTokenizer
from vivace.store import read_examples, write_examples
from vivace.train.batches.rows import IGNORED, Encoded, Row, encode_examples, with_system, without_oldest_exchange

SHOWN = "shown to the teacher as an example"
TOO_LONG = "too long for the teacher with its prompt"
UNALIGNED = "the answer has other tokens after the teacher's prompt"
UNLEARNABLE = "cannot be learned from"

SYSTEM = ("system", "developer")
ENDLESS = 1 << 40


class Baked(Struct, frozen=True):
    """What each row of the student's is to the teacher, and what was left out."""

    rows: tuple[tuple[Row, Row], ...]
    shown: int
    dropped: dict[str, int]


def shown_turns(settings: DistillSettings, examples: Sequence[Example], told: str, system: str) -> list[Message]:
    """Return the turns of the examples, which the teacher sees before every conversation and which nobody learns.

    Raises `ConfigError` when the teacher would see no more than the student; `told` is its system prompt.
    """
    if not examples and (not told or told == system):
        raise ConfigError(
            "The teacher would see the same prompt as the student: there is nothing to learn from it.",
            "Set teacher_system or teacher_examples in [train.distill].",
        )
    return [
        msgspec.structs.replace(turn, weight=0.0) if turn.role == "assistant" else turn
        for example in examples
        for turn in _said(example.messages)
    ]


def system_text(settings: DistillSettings, root: Path) -> str:
    """Return the teacher's system prompt, read from its file where `teacher_system` is file:PATH."""
    path = system_file(settings, root)
    if path is None:
        return settings.teacher_system
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"teacher_system in [train.distill] names {path}, which cannot be read.", "Name a UTF-8 text file."
        ) from error


def system_file(settings: DistillSettings, root: Path) -> Path | None:
    """Return the file that `teacher_system` names, if it names one."""
    told = settings.teacher_system
    return root / told.removeprefix("file:") if told.startswith("file:") else None


def chosen_examples(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Return so many conversations to show: any of the shorter half, chosen by their ids and the seed."""
    fit = [example for example in examples if example.messages and example.messages[-1].role == "assistant"]
    shorter = sorted(fit, key=lambda example: (_length(example), example.id))[: max(count, (len(fit) + 1) // 2)]
    return sorted(shorter, key=lambda example: hashlib.sha256(f"{seed} {example.id}".encode()).digest())[:count]


def bake(
    dataset: Path,
    out: Path,
    tokenizer: ChatTokenizer,
    lengths: tuple[int, int],
    system: str,
    settings: DistillSettings,
    seed: int,
    root: Path,
) -> Baked:
    """Write the conversations that both can read to `out`, and return what the teacher reads for each.

    `lengths` are the most tokens that student and teacher read.
    A conversation's own system prompt is kept for the student; for the teacher it gives way to `teacher_system`.
    """
    train = list(read_examples(dataset, "train"))
    shown = chosen_examples(train, settings.teacher_examples, seed)
    told = system_text(settings, root)
    before = shown_turns(settings, shown, told, system)
    hidden = {example.id for example in shown}
    rows: list[tuple[Row, Row]] = []
    dropped: Counter[str] = Counter()
    if hidden:
        dropped[SHOWN] = len(hidden)

    def usable() -> Iterable[Example]:
        for split in ("train", "validation"):
            for example in read_examples(dataset, split):
                if split == "train" and example.id in hidden:
                    continue
                found = _both(tokenizer, example, told, before, system, lengths)
                if isinstance(found, str):
                    dropped[found] += 1
                    continue
                rows.append(found)
                yield example

    write_examples(out, usable())
    if not rows:
        reason = dropped.most_common(1)[0][0] if dropped else "there is none"
        raise DataError(f"No conversation can be learned from the teacher's prompt: {reason}.", "Shorten the prompt.")
    return Baked(tuple(rows), len(shown), dict(dropped))


def _both(
    tokenizer: ChatTokenizer,
    example: Example,
    told: str,
    before: Sequence[Message],
    system: str,
    lengths: tuple[int, int],
) -> tuple[Row, Row] | str:
    """Return the student's and the teacher's row with the same answers, or why there are none."""
    max_length, teacher_length = lengths
    own = _encoded(tokenizer, example, example.messages, system, max_length)
    if own is None:
        return UNLEARNABLE
    turns = with_system(example.messages, system)
    while own.shortened and len(_ids(tokenizer, turns, example)) > max_length:
        turns = without_oldest_exchange(turns)
    first = (Message("system", told),) if told else tuple(turn for turn in turns if turn.role in SYSTEM)
    theirs = _encoded(tokenizer, example, (*first, *before, *_said(turns)), "", ENDLESS)
    if theirs is None:
        return UNLEARNABLE
    student, teacher = own.rows[0], theirs.rows[0]
    if len(teacher.ids) > teacher_length:
        return TOO_LONG
    return (student, teacher) if _learned(student) == _learned(teacher) else UNALIGNED


def _encoded(
    tokenizer: ChatTokenizer, example: Example, turns: Sequence[Message], system: str, max_length: int
) -> Encoded | None:
    one = msgspec.structs.replace(example, messages=tuple(turns))
    try:
        return encode_examples(tokenizer, [one], system, max_length)
    except (DataError, ModelError):
        return None


def _said(turns: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(turn for turn in turns if turn.role not in SYSTEM)


def _ids(tokenizer: ChatTokenizer, turns: Sequence[Message], example: Example) -> tuple[int, ...]:
    return tokenizer.encode_chat(turns, add_generation_prompt=False, tools=example.tools)


def _learned(row: Row) -> list[int]:
    return [label for label in row.labels[1:] if label != IGNORED]


def _length(example: Example) -> int:
    return sum(len(turn.content) for turn in example.messages)
