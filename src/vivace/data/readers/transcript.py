"""Plain transcripts: "Customer: …" and "Agent: …" lines, with or without times, one conversation or several."""

import re
from collections.abc import Iterator
from typing import ClassVar, cast

from msgspec import Struct, field

from vivace.data.readers.columns import Slots
from vivace.data.readers.speakers import role_of_name, roles_by_opening
from vivace.data.reading.lines import TOO_LONG
from vivace.data.reading.records import Source
from vivace.data.rows import Raw, Reject
from vivace.domain import Message, Role

MAX_CHARS = 1 << 20
MAX_SPEAKERS = 8
_STAMP = r"[\[(]?(?:\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}[,T ]*)?\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?Z?(?: ?[ap]m)?[\])]?"
_TURN = re.compile(
    rf"(?P<stamp>{_STAMP})?\s{{0,3}}(?:[-–|]\s?)?(?P<name>[^\W\d][^:\[\]\t]{{0,39}}):(?=\s|$)", re.IGNORECASE
)
_RULE = re.compile(r"([-=*_#~])\1{2,}$")
_TITLE = re.compile(
    r"[\s\-=*#]{0,20}(?:conversation|chat|ticket|case|session|dialogu?e?|transcript|thread|call)\b[\s#:.]{0,9}"
    r"(?:(?:no\.?|id|number)[\s#:.]{0,9})?(?P<id>[\w-]{0,40})[\s\-=*#:]{0,20}$",
    re.IGNORECASE,
)
_HEAD_CHARS = 120  # a speaker or a title stands at the start of a line: longer lines cost no more time


class _Open(Struct):
    """A conversation under way."""

    own_id: str = ""
    line: int = 0
    lines: list[str] = field(default_factory=list)
    turns: list[tuple[str, str]] = field(default_factory=list)
    stamps: list[str] = field(default_factory=list)
    size: int = 0


class Transcript:
    """Reads speakers by role or name; a rule, or a title such as "Conversation 12", begins the next conversation."""

    NEEDS = 'lines such as "Customer: …" and "Agent: …"'
    SLOTS: ClassVar[Slots] = {}

    def recognizes(self, source: Source) -> bool:
        """Tell whether the first lines are turns of customer and agent, or turns with times."""
        if source.kind not in ("text", "table") and not (source.kind == "json" and source.first_lines):
            return False
        found = [turn for line in source.first_lines if (turn := _turn(line))]
        named = [turn for turn in found if role_of_name(turn["name"])]
        roles = {role_of_name(turn["name"]) for turn in named}
        stamped = {turn["name"] for turn in found if turn["stamp"]}
        most = 2 * len(found) >= len(source.first_lines)
        # A table may quote a transcript in a cell; a transcript with a comma in its first line looks like a table.
        spoken = {"user", "assistant"} <= roles and (most or source.kind != "table")
        return spoken or (len(stamped) > 1 and most)

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield the conversations, and lines before the first turn of one."""
        now = _Open()
        blank = True
        for number, line in source.lines:
            if line is None:
                yield Reject(number, TOO_LONG, "")
                continue
            short = line.strip() if len(line) < _HEAD_CHARS else ""
            rule = _RULE.match(short)
            title = _TITLE.match(short) if blank else None
            if rule or title:
                yield from _closed(now)
                now = _Open(own_id=_digits(title["id"]) if title else now.own_id if not now.turns else "")
            elif line.strip():
                yield from _add(now, number, line)
            elif now.turns:
                _continue(now, line)
            blank = rule is not None or not line or line.isspace()
        yield from _closed(now)


READER = Transcript()


def _turn(line: str) -> re.Match[str] | None:
    """Return the time and the speaker that a line begins with."""
    return _TURN.match(line.lstrip()[:_HEAD_CHARS])


def _digits(name: str) -> str:
    return name if any(char.isdigit() for char in name) else ""


def _add(now: _Open, number: int, line: str) -> Iterator[Reject]:
    turn = _turn(line)
    if turn is None and not now.turns:
        yield Reject(number, "text before the first turn", line)
        return
    now.line = now.line or number
    now.size += len(line)
    if turn and (
        turn["stamp"] or role_of_name(turn["name"]) or any(name == turn["name"].strip() for name, _ in now.turns[-4:])
    ):
        now.turns.append((turn["name"].strip(), line.lstrip()[turn.end() :]))
        now.stamps.append((turn["stamp"] or "").strip("[]()"))
    elif turn and not now.turns:
        yield Reject(number, "text before the first turn", line)
        return
    else:
        _continue(now, line)
    if now.size <= MAX_CHARS:
        now.lines.append(line)
    else:
        now.turns = now.turns[-1:]
        now.stamps = now.stamps[-1:]


def _continue(now: _Open, line: str) -> None:
    if now.size <= MAX_CHARS:
        name, text = now.turns[-1]
        now.turns[-1] = (name, f"{text}\n{line.strip()}")


def _closed(now: _Open) -> Iterator[Raw | Reject]:
    if not now.turns:
        return
    text = "\n".join(now.lines)
    if now.size > MAX_CHARS:
        yield Reject(now.line, f"a conversation of more than {MAX_CHARS >> 20} MiB", text[:1000])
        return
    told = [(name, role_of_name(name)) for name, _ in now.turns]
    unknown = {name for name, role in told if role is None}
    if len(unknown) > MAX_SPEAKERS:
        yield Reject(now.line, f"{len(unknown)} speakers, and no name tells who is the customer", text)
        return
    roles = roles_by_opening(told)
    messages = tuple(Message(cast(Role, roles[name]), said.strip()) for name, said in now.turns)
    metadata = {"message_time": now.stamps} if any(now.stamps) else {}
    yield Raw(now.line, messages, (), now.own_id, metadata, records=len(now.lines))
