"""Every failure a client can see, in OpenAI's error shape."""

import math

import msgspec
from starlette.types import Send

from vivace.errors import EngineDied, Overloaded, ProviderUnavailable, RequestError

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"


class ApiError(Exception):
    """An answer other than 200: its status, and what goes into `{"error": {...}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.headers = headers

    def body(self) -> bytes:
        """Return the error as the JSON that OpenAI's clients read."""
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}
        )


class ClientLeft(Exception):
    """The client closed its connection before its answer was complete."""


class DrainExpired(Exception):
    """The server's deadline for running requests passed while this one was running."""


def unavailable(message: str, code: str, retry_after_s: float = 1.0) -> ApiError:
    """Return the 503 that tells a client when to try again."""
    after = str(max(1, math.ceil(retry_after_s))).encode()
    return ApiError(503, message, kind=SERVER_ERROR, code=code, headers=((b"retry-after", after),))


def as_api_error(error: BaseException) -> ApiError:
    """Translate an exception; what is not the client's business becomes a plain 500 without its text."""
    match error:
        case ApiError():
            return error
        case RequestError():
            status = 404 if error.code == "model_not_found" else 400
            return ApiError(status, str(error), param=error.param, code=error.code or "invalid_value")
        case Overloaded():
            return unavailable(error.message, "overloaded", error.retry_after_s)
        case DrainExpired():
            return unavailable("The server is shutting down and could not finish this request.", "shutting_down")
        case ProviderUnavailable():
            return unavailable(
                "The provider behind this server cannot answer now.", "provider_unavailable", error.retry_after_s
            )
        case EngineDied():
            return unavailable("The engine stopped while it was answering; it starts again now.", "engine_died")
        case _:
            return ApiError(500, "The server had an error while processing your request.", kind=SERVER_ERROR)


def place(error: BaseException) -> str:
    """Name an unexpected error's type and origin without its message, which may quote a prompt."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" in {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    return f"{type(error).__name__}{where}"


async def send_json(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send a complete JSON response."""
    length = (b"content-length", str(len(body)).encode())
    start = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, *, close: bool = False) -> None:
    """Send an error; `close` ends the connection, for when the rest of the body was not read."""
    closing = ((b"connection", b"close"),) if close else ()
    await send_json(send, error.status, error.body(), error.headers + closing)
