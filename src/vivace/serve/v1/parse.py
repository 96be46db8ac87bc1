"""From the bytes of a chat completion request to `Request`s, with everything bounded and every refusal named."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from vivace.domain import Message, Request, Sampling
from vivace.errors import RequestError
from vivace.serve.v1.messages import parse_messages
from vivace.serve.v1.values import (
    as_boolean,
    as_integer,
    as_number,
    as_object,
    as_text,
    invalid,
    same,
    unknown,
    unsupported,
    wrong_type,
)

MAX_CHOICES = 128
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 256
MAX_USER_CHARACTERS = 512
MAX_METADATA = 16
MAX_METADATA_KEY_CHARACTERS = 64
MAX_METADATA_VALUE_CHARACTERS = 512
SEED_LIMIT = 2**63
ENGINE_SEEDS = 2**31

# What OpenAI's API knows and this server does not do yet, with the values that ask for nothing.
NOT_SUPPORTED: dict[str, tuple[object, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": (),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "tool_choice": (),
    "tools": (),
    "top_logprobs": (),
    "verbosity": (),
    "web_search_options": (),
}
SUPPORTED = frozenset({
    "max_completion_tokens", "max_tokens", "messages", "metadata", "model", "n", "prompt_cache_key",
    "safety_identifier", "seed", "stop", "store", "stream", "stream_options", "temperature", "top_p", "user",
})  # fmt: skip


class Limits(Struct, frozen=True):
    """What the served model and the settings allow."""

    model_name: str
    context_length: int
    default_max_tokens: int
    max_choices: int


class ChatCall(Struct, frozen=True):
    """One call: as many requests as answers were asked for."""

    id: str
    requests: tuple[Request, ...]
    stream: bool
    include_usage: bool


def parse_chat(body: bytes, limits: Limits, call_id: str) -> ChatCall:
    """Read one call; raises `RequestError` naming the first parameter that is wrong."""
    fields = _decode(body)
    for name, value in fields.items():
        if name in NOT_SUPPORTED:
            if value is not None and not any(same(value, neutral) for neutral in NOT_SUPPORTED[name]):
                raise unsupported(name)
        elif name not in SUPPORTED:
            raise unknown(name)
    given = {name: value for name, value in fields.items() if value is not None}
    _check_model(given, limits)
    stream = as_boolean(given.get("stream", False), "stream")
    messages = parse_messages(fields)
    as_boolean(given.get("store", False), "store")
    for name in ("safety_identifier", "prompt_cache_key"):
        as_text(given.get(name, ""), name, MAX_USER_CHARACTERS)
    return ChatCall(
        id=call_id,
        requests=_requests(given, messages, limits, call_id),
        stream=stream,
        include_usage=_include_usage(given, stream),
    )


def _decode(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise RequestError("The request body is nested too deeply.", code="invalid_json") from None
    except UnicodeDecodeError:
        raise RequestError("The request body is not valid UTF-8.", code="invalid_json") from None
    except msgspec.MsgspecError as error:
        # The decoder tells what is wrong and the byte where, never the text around it.
        raise RequestError(f"The request body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise RequestError("The request body must be a JSON object.", code="invalid_json")
    return value


def _check_model(given: dict[str, Any], limits: Limits) -> None:
    if "model" not in given:
        raise RequestError("You must provide a model parameter.", "model", "missing_required_parameter")
    name = as_text(given["model"], "model", 256)
    if name != limits.model_name:
        raise model_not_found(name)


def model_not_found(name: str) -> RequestError:
    """Return OpenAI's error for a model that is not served here."""
    shown = name if len(name) <= 64 else name[:64] + "…"
    return RequestError(
        f"The model {shown!r} does not exist or you do not have access to it.", "model", "model_not_found"
    )


def _requests(
    given: dict[str, Any], messages: tuple[Message, ...], limits: Limits, call_id: str
) -> tuple[Request, ...]:
    count = as_integer(given.get("n", 1), "n", 1, min(MAX_CHOICES, limits.max_choices))
    seed = as_integer(given["seed"], "seed", -SEED_LIMIT, SEED_LIMIT - 1) if "seed" in given else None
    sampling = Sampling(
        max_tokens=_max_tokens(given, limits),
        temperature=as_number(given.get("temperature", 0.0), "temperature", 0, 2),
        top_p=_top_p(given),
        stop=_stop(given),
        seed=seed,
    )
    metadata = _metadata(given)
    requests = []
    for index in range(count):
        # Each answer has a seed of its own, or they would all be the same; engines take 31 bits.
        own_seed = None if seed is None else (seed + index) % ENGINE_SEEDS
        requests.append(
            Request(
                id=call_id if count == 1 else f"{call_id}-{index}",
                messages=messages,
                model=limits.model_name,
                sampling=msgspec.structs.replace(sampling, seed=own_seed),
                metadata=metadata,
            )
        )
    return tuple(requests)


def _max_tokens(given: dict[str, Any], limits: Limits) -> int:
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in given]
    if len(names) == 2 and given[names[0]] != given[names[1]]:
        raise invalid("max_tokens", "Give max_completion_tokens or max_tokens, not both with different values.")
    if not names:
        return limits.default_max_tokens
    return as_integer(given[names[0]], names[0], 1, limits.context_length)


def _top_p(given: dict[str, Any]) -> float:
    value = as_number(given.get("top_p", 1.0), "top_p", 0, 1)
    # 0 keeps the likeliest token alone, as OpenAI does; engines want a share above 0.
    return max(value, 1e-6)


def _stop(given: dict[str, Any]) -> tuple[str, ...]:
    value = given.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list):
        raise wrong_type("stop", "a string or an array of strings", value)
    if not 1 <= len(stops) <= MAX_STOPS:
        raise invalid("stop", f"'stop' takes 1 to {MAX_STOPS} sequences, but got {len(stops)}.")
    for index, stop in enumerate(stops):
        name = "stop" if isinstance(value, str) else f"stop[{index}]"
        if not as_text(stop, name, MAX_STOP_CHARACTERS):
            raise invalid(name, f"{name!r} must not be empty.")
    return tuple(stops)


def _include_usage(given: dict[str, Any], stream: bool) -> bool:
    if "stream_options" not in given:
        return False
    options = as_object(given["stream_options"], "stream_options")
    if not stream:
        raise invalid("stream_options", "'stream_options' is only allowed when 'stream' is true.")
    readers: dict[str, Callable[[Any], bool]] = {
        "include_usage": lambda value: as_boolean(value, "stream_options.include_usage"),
        "include_obfuscation": lambda value: as_boolean(value, "stream_options.include_obfuscation"),
    }
    flags = {}
    for name, value in options.items():
        if name not in readers:
            raise unknown(f"stream_options.{name}")
        flags[name] = value is not None and readers[name](value)
    if flags.get("include_obfuscation"):
        raise unsupported("stream_options.include_obfuscation")
    return flags.get("include_usage", False)


def _metadata(given: dict[str, Any]) -> dict[str, str]:
    metadata = as_object(given.get("metadata", {}), "metadata")
    if len(metadata) > MAX_METADATA:
        raise invalid("metadata", f"'metadata' takes at most {MAX_METADATA} keys, but got {len(metadata)}.")
    for key, value in metadata.items():
        if len(key) > MAX_METADATA_KEY_CHARACTERS:
            raise invalid("metadata", f"A key of 'metadata' is longer than {MAX_METADATA_KEY_CHARACTERS} characters.")
        as_text(value, f"metadata.{key}", MAX_METADATA_VALUE_CHARACTERS)
    user = as_text(given.get("user", ""), "user", MAX_USER_CHARACTERS)
    return {"user": user, **metadata} if user else dict(metadata)
