"""What a provider's refusals and breakdowns mean, as sentences that hold no secret."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from vivace.config.providers import ProviderSettings
from vivace.engines.remote.retries import may_pass, retry_after_s
from vivace.errors import EngineError, ProviderUnavailable, RequestError, VivaceError

LONGEST_QUOTE = 300
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|prompt is too long|too many tokens|exceed_context|`?inputs`? (tokens|must have)"
    r"|max_tokens.{0,40}exceed",
    re.IGNORECASE,
)
_FILTERED = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low", "billing_error"})
_STATUS: dict[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "validation": 422,
    "overloaded": 529,
    "overloaded_error": 529,
    "timeout_error": 504,
}


class Told(Struct, frozen=True):
    """What an error body says, whoever wrote it."""

    message: str = ""
    code: str = ""
    param: str = ""


class Failed(Exception):
    """An attempt that failed: the error for the caller, whether another may pass, and what it says of the provider."""

    def __init__(
        self,
        error: VivaceError,
        *,
        retry: bool = False,
        outcome: Literal["up", "down", "unknown"] = "unknown",
        after_s: float | None = None,
        told: Told | None = None,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.retry = retry
        self.outcome = outcome
        self.after_s = after_s
        self.told = told


class Teller:
    """Puts failures of one provider into sentences."""

    def __init__(self, name: str, settings: ProviderSettings, host: str, secrets: Iterable[str]) -> None:
        self.name = name
        self._settings = settings
        self._host = host
        self._secrets = sorted((each for each in secrets if each), key=len, reverse=True)

    def quote(self, text: str) -> str:
        """Return a stranger's words on one line, short, and without our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "[key]")
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"

    def broken(self, what: str, *, retry: bool = True, hint: str = "") -> Failed:
        """Return the failure of a provider that did not answer, or answered what nobody can read."""
        return Failed(EngineError(f"The provider {self.name} {what}.", hint), retry=retry, outcome="down")

    def late(self, what: str, seconds: float, key: str) -> Failed:
        """Return the failure of a provider that took too long."""
        return self.broken(
            f"{what} within {seconds:g} s", hint=f"{key} in [models.providers.{self.name}.timeouts] says how long."
        )

    def refused(self, status: int, headers: Mapping[str, str], told: Told) -> Failed:
        """Return the failure that a status other than 200 stands for."""
        said = self.quote(told.message)
        where = f"HTTP {status} from {self._host}"
        tail = f" ({where}): {said}" if said else f" ({where})."
        if told.code in _SPENT or status == 402:
            message = f"The account of the provider {self.name} has no credit left{tail}"
            return Failed(ProviderUnavailable(message), outcome="up", told=told)
        if may_pass(status, headers):
            error = EngineError(f"The provider {self.name} {_trouble(status)}{tail}")
            busy = status in (408, 409, 429)
            after_s = retry_after_s(headers)
            return Failed(error, retry=True, outcome="unknown" if busy else "down", after_s=after_s, told=told)
        if 300 <= status < 400:
            return self._redirected(headers)
        if status in (401, 403):
            return Failed(self._no_entry(status), outcome="up", told=told)
        if status in (404, 405, 410):
            error = ProviderUnavailable(
                f"The provider {self.name} has no model {self._settings.model!r} at {self._settings.url}{tail}",
                "Check model and base_url: the address of most servers ends in /v1.",
            )
            return Failed(error, outcome="up", told=told)
        if status >= 500:
            return Failed(EngineError(f"The provider {self.name} {_trouble(status)}{tail}"), outcome="down", told=told)
        return Failed(self._wrong(tail, told), outcome="up", told=told)

    def given_up(self, failure: Failed, attempts: int, why: str = "") -> VivaceError:
        """Return the error after the last attempt; what might have passed stops the work instead of spoiling it."""
        error = failure.error
        if not failure.retry:
            return error
        times = "" if attempts == 1 else f" It was asked {attempts} times."
        return ProviderUnavailable(
            f"{error.message}{times}{f' {why}' if why else ''}", error.hint, failure.after_s or 1.0
        )

    def _redirected(self, headers: Mapping[str, str]) -> Failed:
        target = self.quote(headers.get("location", "").partition("?")[0]) or "nowhere"
        error = ProviderUnavailable(
            f"The provider {self.name} at {self._host} sends its callers on to {target}. Vivace does not follow: "
            "the key is for the address in vivace.toml alone.",
            "If the new address is right, set it as base_url.",
        )
        return Failed(error, outcome="up")

    def _no_entry(self, status: int) -> ProviderUnavailable:
        # Not quoted: these answers like to repeat parts of the key.
        reference = self._settings.api_key
        if not reference:
            return ProviderUnavailable(
                f"The provider {self.name} asks for a key (HTTP {status} from {self._host}).",
                f'Set api_key = "env:NAME" in [models.providers.{self.name}].',
            )
        variable = reference.removeprefix("env:")
        what = "refuses the key" if status == 401 else "does not allow this with the key"
        return ProviderUnavailable(
            f"The provider {self.name} {what} in the environment variable {variable} "
            f"(HTTP {status} from {self._host}).",
            f"Check {variable}, and that it may use the model {self._settings.model!r}.",
        )

    def _wrong(self, tail: str, told: Told) -> RequestError:
        if told.code == "context_length_exceeded" or _TOO_LONG.search(f"{told.code} {told.message}"):
            return RequestError(
                f"The conversation is too long for the provider {self.name}{tail} "
                f"Set context_length in [models.providers.{self.name}] to what the model takes.",
                "messages",
                "context_length_exceeded",
            )
        if told.code in _FILTERED:
            return RequestError(
                f"The filter of the provider {self.name} refuses the conversation{tail}", "messages", "content_filter"
            )
        advice = ""
        if told.param and told.param in ("temperature", "top_p", "seed", "stop", "tools"):
            advice = f' fields = {{ {told.param} = "" }} in [models.providers.{self.name}] leaves it out.'
        return RequestError(
            f"The provider {self.name} refuses the request{tail}{advice}", told.param or None, told.code or None
        )


def read_error(body: bytes) -> Told:
    """Read an error body: that of any server known here, a page or plain text."""
    text = body.decode("utf-8", errors="replace")
    try:
        data = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        if title is not None:
            return Told(title[1])
        return Told("" if text.lstrip().startswith("<") else text)
    return error_in(data) or Told(text)


def error_in(data: Any) -> Told | None:
    """Return the error that a JSON value is, None where it is none."""
    if not isinstance(data, dict):
        return None
    inner = data.get("error")
    if isinstance(inner, dict):
        code = next((inner[key] for key in ("code", "type", "status") if _is_word(inner.get(key))), "")
        if str(code) in ("invalid_request_error", "None") or isinstance(code, int):
            code = inner.get("type") if str(inner.get("type", "")).startswith("exceed_context") else code
        return Told(_words(inner.get("message")), str(code), str(inner.get("param") or ""))
    if isinstance(inner, str) and inner:
        return Told(inner, str(data.get("error_type") or ""))
    if data.get("detail"):
        return Told(_words(data["detail"]), "", _location(data["detail"]))
    if data.get("object") == "error" or ("message" in data and "choices" not in data and "content" not in data):
        message = data.get("message")
        detail = message.get("detail") if isinstance(message, dict) else message
        return Told(_words(detail), str(data.get("code") or data.get("type") or ""), _location(detail))
    return None


def status_of(told: Told) -> int:
    """Return the HTTP status that an error in the middle of a stream would have had."""
    if told.code.isdigit() and 400 <= int(told.code) < 600:
        return int(told.code)
    return _STATUS.get(told.code, 500)


def _is_word(value: Any) -> bool:
    return isinstance(value, (str, int)) and value != ""


def _words(value: Any) -> str:
    """Return the sentence in a message, or those in a list of validation errors."""
    if isinstance(value, list):
        return "; ".join(filter(None, (_words(item) for item in value[:5])))
    if isinstance(value, dict):
        place = ".".join(str(part) for part in value.get("loc") or () if part != "body")
        said = str(value.get("msg") or value.get("message") or value.get("detail") or "")
        return f"{place}: {said}" if place else said
    return "" if value is None else str(value)


def _location(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    where = first.get("loc") if isinstance(first, dict) else None
    return str(where[-1]) if isinstance(where, list) and where else ""


def _trouble(status: int) -> str:
    if status == 429:
        return "takes no more requests for now"
    return "is overloaded" if status in (503, 529) else "is in trouble"
