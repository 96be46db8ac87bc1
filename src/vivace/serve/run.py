"""Offer a candidate over HTTP until a signal says stop."""

import socket
from collections.abc import Callable, Mapping
from typing import Any

from vivace.chain import stack
from vivace.config.settings import ServeSettings
from vivace.domain import Candidate
from vivace.engines import open_engine
from vivace.serve.app import admission_of, create_app
from vivace.serve.keys import check_exposure, resolve_keys
from vivace.serve.server import DRAIN_S, DrainingServer, bind, server_config


async def run_server(
    candidate: Candidate,
    settings: ServeSettings,
    *,
    model_name: str,
    release_id: str,
    on_ready: Callable[[str], None],
    created: int | None = None,
    opened_with: Mapping[str, Any] | None = None,
    drain_s: float = DRAIN_S,
) -> None:
    """Serve `candidate`, tell its URL to `on_ready`, and return once SIGTERM or SIGINT has drained it.

    `opened_with` are further options for opening its engine; threads named in the settings win over theirs.
    Answers in work get `drain_s` seconds to finish; a second signal ends them at once. Raises `ConfigError` for an
    address that cannot be had or keys that are missing, and what opening the engine raises.
    """
    keys = resolve_keys(settings)
    check_exposure(settings, keys)

    with bind(settings.host, settings.port) as listener:
        options = {**(opened_with or {})}
        if settings.threads is not None:
            options["threads"] = settings.threads
        async with open_engine(candidate.engine, candidate.model, **options) as engine:
            responder = stack(engine, candidate.chain)
            app = create_app(
                responder, engine, settings, model_name=model_name, release_id=release_id, keys=keys, created=created
            )
            url = _url(settings.host, listener)
            server = DrainingServer(server_config(app), admission_of(app), lambda: on_ready(url), drain_s)
            await server.serve(sockets=[listener])


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    name = host.strip("[]")
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"
