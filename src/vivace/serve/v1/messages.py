"""Reading the conversation of a request: roles, text and text parts."""

from typing import Any

from vivace.domain import Message, Role
from vivace.errors import RequestError
from vivace.serve.v1.values import as_object, as_text, invalid, unknown, unsupported, wrong_type

MAX_MESSAGES = 2048
MAX_PARTS = 2048
MAX_NAME_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 10_000_000  # the body's size is the limit that counts

# developer is OpenAI's newer word for system; local models have learned the older one.
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
TOOL_ROLES = frozenset({"tool", "function"})
# What clients send back when they append an answer to the conversation, without a value.
EMPTY_WHEN_ECHOED = frozenset({"annotations", "audio", "function_call", "refusal", "tool_calls"})
OTHER_PARTS = frozenset({"file", "image_url", "input_audio"})


def parse_messages(fields: dict[str, Any]) -> tuple[Message, ...]:
    """Read `messages`; raises `RequestError` naming the first wrong field as `messages[0].content`."""
    if "messages" not in fields:
        raise RequestError("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    turns = fields["messages"]
    if not isinstance(turns, list):
        raise wrong_type("messages", "an array of objects", turns)
    if not turns:
        raise invalid(
            "messages", "Invalid 'messages': empty array. Expected an array with at least 1 message.", "empty_array"
        )
    if len(turns) > MAX_MESSAGES:
        message = f"'messages' takes at most {MAX_MESSAGES} messages, but got {len(turns)}."
        raise invalid("messages", message, "array_above_max_length")
    return tuple(_message(turn, f"messages[{index}]") for index, turn in enumerate(turns))


def _message(turn: Any, where: str) -> Message:
    fields = as_object(turn, where)
    role = _role(fields, where)
    for field, value in fields.items():
        if field in EMPTY_WHEN_ECHOED and role == "assistant":
            if value is not None and value != []:
                raise unsupported(f"{where}.{field}")
        elif field not in ("role", "content", "name"):
            raise unknown(f"{where}.{field}")
    name = fields.get("name")
    if name is not None:
        as_text(name, f"{where}.name", MAX_NAME_CHARACTERS)
    if fields.get("content") is None:
        raise RequestError(
            f"Missing required parameter: '{where}.content'.", f"{where}.content", "missing_required_parameter"
        )
    return Message(role=role, content=_content(fields["content"], f"{where}.content", role), name=name)


def _role(fields: dict[str, Any], where: str) -> Role:
    if "role" not in fields:
        raise RequestError(
            f"Missing required parameter: '{where}.role'.", f"{where}.role", "missing_required_parameter"
        )
    role = as_text(fields["role"], f"{where}.role", MAX_NAME_CHARACTERS)
    if role in TOOL_ROLES:
        raise unsupported(f"{where}.role", f"Messages of the role {role!r} are not supported by this server yet.")
    if role not in ROLES:
        known = ", ".join(repr(name) for name in ROLES)
        raise invalid(f"{where}.role", f"Invalid value: {role!r}. Supported values are: {known}.")
    return ROLES[role]


def _content(content: Any, where: str, role: Role) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise wrong_type(where, "a string or an array of objects", content)
    if not content:
        raise invalid(where, f"Invalid '{where}': empty array.", "empty_array")
    if len(content) > MAX_PARTS:
        raise invalid(where, f"'{where}' takes at most {MAX_PARTS} parts.", "array_above_max_length")
    return "\n".join(_part(part, f"{where}[{index}]", role) for index, part in enumerate(content))


def _part(part: Any, where: str, role: Role) -> str:
    fields = as_object(part, where)
    if "type" not in fields:
        raise RequestError(
            f"Missing required parameter: '{where}.type'.", f"{where}.type", "missing_required_parameter"
        )
    kind = as_text(fields["type"], f"{where}.type", MAX_NAME_CHARACTERS)
    if kind in OTHER_PARTS:
        raise unsupported(where, f"Content of the type {kind!r} is not supported by this model: send text.")
    if kind != "text" and (kind, role) != ("refusal", "assistant"):
        raise invalid(f"{where}.type", f"Invalid value: {kind!r}. Supported values are: 'text'.")
    for name in fields:
        if name not in ("type", kind):
            raise unknown(f"{where}.{name}")
    if kind not in fields:
        raise RequestError(
            f"Missing required parameter: '{where}.{kind}'.", f"{where}.{kind}", "missing_required_parameter"
        )
    return as_text(fields[kind], f"{where}.{kind}", MAX_TEXT_CHARACTERS)
