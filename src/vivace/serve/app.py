"""The ASGI application: OpenAI's routes over one responder."""

import hashlib
import time
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vivace.config.settings import ServeSettings
from vivace.domain import Responder
from vivace.serve.admission import Admission
from vivace.serve.edge import Edge
from vivace.serve.failures import ApiError
from vivace.serve.keys import KeyRing, check_exposure
from vivace.serve.revival import EngineState, Revival
from vivace.serve.v1.chat import ChatEndpoint
from vivace.serve.v1.parse import Limits, model_not_found
from vivace.serve.v1.wire import ModelEntry, ModelList, encode


def create_app(
    responder: Responder,
    engine: EngineState,
    settings: ServeSettings,
    *,
    model_name: str,
    release_id: str,
    keys: tuple[str, ...] = (),
    created: int | None = None,
) -> Starlette:
    """Build the application; `created` is the release's Unix time. Raises `ConfigError` if anybody could use it."""
    check_exposure(settings, keys)
    admission = Admission(settings.max_queue)
    ring = KeyRing(keys)
    fingerprint = "fp_" + hashlib.sha256(f"{release_id} {engine.name}".encode()).hexdigest()[:12]
    entry = ModelEntry(id=model_name, created=int(time.time()) if created is None else created)
    limits = Limits(
        model_name=model_name,
        context_length=engine.context_length,
        # A client that names no length must not be refused for it by a model with a short context.
        default_max_tokens=max(1, min(settings.max_tokens, engine.context_length // 2)),
        max_choices=settings.max_queue,
    )
    chat = ChatEndpoint(responder, admission, limits, max_body_bytes=settings.max_body_bytes, fingerprint=fingerprint)

    revival = Revival(engine)

    async def health(request: Request) -> Response:
        revival.begin()
        state = "draining" if admission.draining else "ok" if engine.alive else "engine_died"
        facts: dict[str, object] = {"status": state}
        if not ring:
            facts |= {"model": model_name, "release": release_id, "engine": engine.name, "active": admission.active}
        return _json(facts, 200 if state == "ok" else 503)

    async def models(request: Request) -> Response:
        return _json(ModelList(data=(entry,)))

    async def model(request: Request) -> Response:
        wanted = request.path_params["model_id"]
        if wanted != model_name:
            raise model_not_found(wanted)
        return _json(entry)

    app = Starlette(
        routes=[
            Route("/health", health, methods=["GET"]),
            Route("/v1/models", models, methods=["GET"]),
            Route("/v1/models/{model_id:path}", model, methods=["GET"]),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
        middleware=[Middleware(Edge, keys=ring, admission=admission)],
        exception_handlers={HTTPException: _not_routed},
    )
    app.router.redirect_slashes = False
    app.state.admission = admission
    return app


def admission_of(app: Starlette) -> Admission:
    """Return what counts and drains the application's work."""
    admission: Admission = app.state.admission
    return admission


def _json(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


async def _not_routed(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers: Sequence[tuple[bytes, bytes]] = ()
    if status == 405:
        allowed = (error.headers or {}).get("Allow", "") if isinstance(error, HTTPException) else ""
        headers = ((b"allow", allowed.encode()),)
        answer = ApiError(405, f"Not allowed to {request.method} on this URL.", code="method_not_supported")
    else:
        answer = ApiError(404, "Unknown request URL. Please check it for typos.", code="unknown_url")
    response = Response(answer.body(), answer.status, media_type="application/json")
    response.raw_headers.extend(headers)
    return response
