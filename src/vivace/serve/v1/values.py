"""Reading single values of a request: type and bounds, with OpenAI's error codes."""

from typing import Any

from vivace.errors import RequestError


def kind_of(value: object) -> str:
    """Name a JSON value's type for an error message."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def invalid(param: str, message: str, code: str = "invalid_value") -> RequestError:
    """Return the error for a value that is not allowed."""
    return RequestError(message, param, code)


def wrong_type(param: str, expected: str, value: object) -> RequestError:
    """Return the error for a value of the wrong type."""
    message = f"Invalid type for {param!r}: expected {expected}, but got {kind_of(value)} instead."
    return RequestError(message, param, "invalid_type")


def unknown(param: str) -> RequestError:
    """Return the error for a parameter that OpenAI's API does not have."""
    shown = param if len(param) <= 64 else param[:64] + "…"
    return RequestError(f"Unknown parameter: {shown!r}.", shown, "unknown_parameter")


def unsupported(param: str, what: str = "") -> RequestError:
    """Return the error for a parameter that OpenAI's API has and this server does not support yet."""
    return RequestError(what or f"{param!r} is not supported by this server yet.", param, "unsupported_parameter")


def same(value: object, other: object) -> bool:
    """Compare JSON values; unlike Python's, a boolean is not a number."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def as_boolean(value: Any, param: str) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool):
        raise wrong_type(param, "a boolean", value)
    return value


def as_text(value: Any, param: str, most_characters: int) -> str:
    """Return a string of bounded length."""
    if not isinstance(value, str):
        raise wrong_type(param, "a string", value)
    if len(value) > most_characters:
        message = f"{param!r} takes at most {most_characters} characters, but got {len(value)}."
        raise invalid(param, message, "string_above_max_length")
    return value


def as_object(value: Any, param: str) -> dict[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    return value


def as_integer(value: Any, param: str, low: int, high: int) -> int:
    """Return an integer within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(param, "an integer", value)
    return int(_bounded(value, param, low, high, "integer"))


def as_number(value: Any, param: str, low: float, high: float) -> float:
    """Return a number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(param, "a decimal", value)
    return float(_bounded(value, param, low, high, "decimal"))


def _bounded(value: float, param: str, low: float, high: float, kind: str) -> float:
    if value < low:
        message = f"Invalid {param!r}: {kind} below minimum value. Expected a value >= {low}, but got {value} instead."
        raise invalid(param, message, f"{kind}_below_min_value")
    if value > high:
        message = f"Invalid {param!r}: {kind} above maximum value. Expected a value <= {high}, but got {value} instead."
        raise invalid(param, message, f"{kind}_above_max_value")
    return value
