"""Speakers by name: a role in the name, else the one who opens is the customer."""

import re

from vivace.data.readers.turns import SPEAKERS

_WORD = re.compile(r"[a-z]+")


def role_of_name(name: str) -> str | None:
    """Return the role that a name tells, such as "Agent Smith" or "Ann (Customer)"; None for "Ann"."""
    lowered = name.strip().lower()
    if (role := SPEAKERS.get(lowered)) and role != "call":
        return role
    told = {SPEAKERS[word] for word in _WORD.findall(lowered) if SPEAKERS.get(word) in ("user", "assistant")}
    return told.pop() if len(told) == 1 else None


def roles_by_opening(turns: list[tuple[str, str | None]]) -> dict[str, str]:
    """Return the role of each speaker of a conversation, given the speakers in order and the roles their names tell.

    Who opens a conversation is the customer, unless somebody else is told to be; all others answer.
    """
    roles = {name: role for name, role in turns if role}
    for name, _ in turns:
        if name not in roles:
            roles[name] = "assistant" if "user" in roles.values() else "user"
    return roles
