"""Every failure a user can cause or fix, as one tree.

VivaceError
├── ConfigError        vivace.toml or a flag is wrong                     exit 2
├── DataError          a conversation or document file cannot be used     exit 3
├── ModelError         a model folder, name or package cannot be used     exit 4
├── StoreError         the project's store is damaged or cannot be written exit 5
│   └── DiskFullError  no space left where Vivace writes                  exit 5
├── EngineError        an engine could not start or answer                exit 6
│   └── EngineDied     the engine's process ended while it had work       exit 6
├── RequestError       one request is wrong: HTTP 4xx, the engine is fine exit 2
├── Overloaded         no room for the request now: try again later       exit 6
├── ResourceError      what was asked does not fit this machine           exit 7
└── ReleaseRefused     no candidate meets the objective                   exit 8
"""


class VivaceError(Exception):
    """A failure told in one sentence, with a hint that says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(VivaceError):
    """`vivace.toml` or a flag is wrong."""

    exit_code = 2


class DataError(VivaceError):
    """A conversation or document file cannot be used."""

    exit_code = 3


class ModelError(VivaceError):
    """A model folder, name or package cannot be used."""

    exit_code = 4


class StoreError(VivaceError):
    """The project's store is damaged or cannot be written."""

    exit_code = 5


class DiskFullError(StoreError):
    """No space is left where Vivace writes."""


class EngineError(VivaceError):
    """An engine could not start or answer."""

    exit_code = 6


class EngineDied(EngineError):
    """The engine's process ended while it had work."""


class ProviderUnavailable(EngineDied):
    """A provider cannot be asked now, or not with these settings: work stops here and can go on later."""

    def __init__(self, message: str, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint)
        self.retry_after_s = retry_after_s


class RequestError(VivaceError):
    """One request is wrong, the engine is fine; `param` names the offending field, `code` is OpenAI's word."""

    exit_code = 2

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class Overloaded(VivaceError):
    """No room for the request now; `retry_after_s` says when to try again."""

    exit_code = 6

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ResourceError(VivaceError):
    """What was asked does not fit this machine."""

    exit_code = 7


class ReleaseRefused(VivaceError):
    """No candidate meets the objective."""

    exit_code = 8
