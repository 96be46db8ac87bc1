"""uvicorn as it runs here: bounded, quiet, and finishing running answers before it stops."""

import asyncio
import math
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from vivace.errors import ConfigError
from vivace.serve.admission import Admission
from vivace.serve.protocol import BoundedProtocol

DRAIN_S = 30.0
KEEP_ALIVE_S = 65  # longer than clients and proxies keep idle connections, so that they close first
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def server_config(app: Any) -> uvicorn.Config:
    """Return how uvicorn runs an application here: httptools, no access log, nobody's word on the client's address."""
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


class DrainingServer(uvicorn.Server):
    """uvicorn that finishes running answers, streams too, before it stops, and then returns instead of dying."""

    def __init__(
        self,
        config: uvicorn.Config,
        admission: Admission,
        on_ready: Callable[[], None] = lambda: None,
        drain_s: float = DRAIN_S,
    ) -> None:
        # uvicorn cuts streams at its own deadline: it is only for handlers that ignore ours.
        config.timeout_graceful_shutdown = math.ceil(drain_s) + 5
        super().__init__(config)
        self._admission = admission
        self._on_ready = on_ready
        self._drain_s = drain_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, wait for running answers, and end those that take longer than the deadline."""
        self._admission.drain()
        deadline = asyncio.get_running_loop().call_later(self._drain_s, self._admission.expire)
        await super().shutdown(sockets)
        deadline.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals over for as long as the server runs; uvicorn would raise them again at the end."""
        loop = asyncio.get_running_loop()
        try:
            for number in STOP_SIGNALS:
                loop.add_signal_handler(number, self.stop)
        except (ValueError, RuntimeError):  # not in the main thread: whoever runs us there calls stop()
            yield
            return
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Drain; asked a second time, end at once."""
        if self.should_exit:
            self._admission.expire()
        self.should_exit = True


@contextmanager
def bind(host: str, port: int) -> Iterator[socket.socket]:
    """Reserve an address before the engine is opened; it is listened on only when the engine is ready."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"serve.host {host!r} is not an address of this machine ({error}).") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            hint = "Choose another serve.port, or 0 for a free one."
            raise ConfigError(f"Cannot listen on {host}:{port} ({error.strerror or error}).", hint) from None
        listener.setblocking(False)
        yield listener
