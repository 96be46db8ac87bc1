"""The pooled HTTP client of one provider: it sends, and tells every way in which that can fail."""

import asyncio
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vivace.config import resolve_secret
from vivace.config.providers import ProviderSettings
from vivace.engines.remote.failures import Failed, Teller
from vivace.errors import ConfigError, EngineError

if TYPE_CHECKING:
    import aiohttp

MAX_ANSWER_BYTES = 64_000_000
MAX_ERROR_BYTES = 64_000
DRAIN_S = 0.02
INSTALL = 'Install it with: pip install "vivace[remote]"'


class Secrets:
    """The values of `env:` references; never shown."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._values = {
            reference: _secret(reference)
            for reference in (settings.api_key, *settings.headers.values())
            if reference.startswith("env:")
        }

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._values)})"

    def __getitem__(self, text: str) -> str:
        return self._values.get(text, text)

    def values(self) -> list[str]:
        """Return the secrets themselves, to take them out of what others say."""
        return list(self._values.values())


class Wire:
    """Connections to one host, kept open between requests."""

    def __init__(self, settings: ProviderSettings, headers: Mapping[str, str], teller: Teller) -> None:
        try:
            import aiohttp
        except ImportError:
            raise EngineError(f"The {settings.engine} engine needs aiohttp, which is not installed.", INSTALL) from None
        self._settings = settings
        self._teller = teller
        self._proxy, self._proxy_auth = _proxy_for(settings)
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            trace_configs=[trace],
            connector=aiohttp.TCPConnector(limit=0),
            # Only the connection: what comes after has deadlines of its own, which know what a token is.
            timeout=aiohttp.ClientTimeout(total=None, connect=settings.timeouts.connect_s),
            headers={"Content-Type": "application/json", "User-Agent": "vivace", **headers},
            cookie_jar=aiohttp.DummyCookieJar(),
            # Proxies are looked up above: the library would also send passwords from ~/.netrc.
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, endpoint: str, body: bytes, accept: str) -> "Reply":
        """Send and wait for the headers; raises `Failed`."""
        import aiohttp

        settings = self._settings
        azure = settings.engine == "openai" and settings.api_version
        while True:
            used: dict[str, bool] = {"again": False}
            try:
                response = await self._session.post(
                    settings.url + endpoint,
                    data=body,
                    params={"api-version": settings.api_version} if azure else None,
                    headers={"Accept": accept},
                    allow_redirects=False,
                    proxy=self._proxy,
                    proxy_auth=self._proxy_auth,
                    trace_request_ctx=used,
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # A connection that was kept open and closed meanwhile is nobody's failure: llama.cpp's server closes
                # after each stream, whatever its headers promise. The pool forgets it, so this comes to an end.
                if used["again"]:
                    continue
                failure = self.explain(error)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                failure = self.explain(error)
            else:
                return Reply(response, self)
            break
        raise failure  # outside: a caught error may hold the headers, and with them the key

    def explain(self, error: Exception) -> Failed:
        """Return what an error of the client library means."""
        import aiohttp

        tell, host = self._teller, urlsplit(self._settings.url).netloc
        match error:
            case aiohttp.ConnectionTimeoutError():
                return tell.late(f"at {host} accepted no connection", self._settings.timeouts.connect_s, "connect_s")
            case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
                return tell.broken("cannot be reached through the proxy that the environment names")
            case aiohttp.ClientConnectorCertificateError():
                return tell.broken(f"at {host} shows a certificate that is not trusted", retry=False)
            case aiohttp.ClientSSLError():
                return tell.broken(f"at {host} does not speak TLS", retry=False, hint="Is it http:// instead?")
            case aiohttp.ClientConnectorDNSError():
                return tell.broken(f"has an address that is not known here: {host}")
            case aiohttp.ClientConnectorError():
                reason = tell.quote(error.strerror or type(error.os_error).__name__)
                return tell.broken(f"cannot be reached at {host} ({reason})", hint="Is it running? Is base_url right?")
            case aiohttp.ClientPayloadError():
                return tell.broken("broke off its answer")
            case aiohttp.ServerDisconnectedError() | OSError():
                return tell.broken("closed the connection before it had answered")
            case aiohttp.ClientResponseError():
                return tell.broken(f"at {host} answers in a way that is not HTTP", retry=False)
            case _:
                return tell.broken(f"could not be asked ({type(error).__name__})", retry=False)

    def flooded(self) -> Failed:
        """Return the failure of a server that does not stop."""
        return self._teller.broken(f"sent more than {MAX_ANSWER_BYTES:,} bytes for one answer", retry=False)


class Reply:
    """One response, read piece by piece."""

    def __init__(self, response: "aiohttp.ClientResponse", wire: Wire) -> None:
        self._response = response
        self._wire = wire
        self._size = 0
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def piece(self) -> bytes:
        """Return what has come, b"" at the end; raises `Failed`."""
        import aiohttp

        try:
            piece = await self._response.content.readany()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = self._wire.explain(error)
        else:
            self._size += len(piece)
            if self._size <= MAX_ANSWER_BYTES:
                return piece
            failure = self._wire.flooded()
        raise failure

    async def beginning(self) -> bytes:
        """Return the body as far as an error message goes; one that breaks off says what it could."""
        parts: list[bytes] = []
        try:
            while sum(map(len, parts)) < MAX_ERROR_BYTES and (piece := await self.piece()):
                parts.append(piece)
        except Failed:
            pass
        return b"".join(parts)[:MAX_ERROR_BYTES]

    async def keep(self) -> None:
        """Give the connection back for the next request, if the server ends the body as it should."""
        try:
            async with asyncio.timeout(DRAIN_S):
                while await self.piece():
                    pass
        except (Failed, TimeoutError):
            return

    def close(self) -> None:
        """Close the connection, unless the body was read to its end."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


async def _note_reuse(_session: Any, context: Any, _params: Any) -> None:
    context.trace_request_ctx["again"] = True


def _secret(reference: str) -> str:
    value = resolve_secret(reference).strip()
    if not value or not value.isascii() or not value.isprintable():
        raise ConfigError(
            f"The environment variable {reference.removeprefix('env:')} holds characters that no header can carry.",
            "Was it copied with a line break, or with quotation marks of a word processor?",
        )
    return value


def _proxy_for(settings: ProviderSettings) -> tuple[str | None, Any]:
    """Return the proxy that the environment names for this host, and its password; none for this machine itself."""
    import aiohttp
    from yarl import URL

    parts = urlsplit(settings.url)
    if settings.is_local or urllib.request.proxy_bypass(parts.hostname or ""):
        return None, None
    found = urllib.request.getproxies().get(parts.scheme)
    if not found:
        return None, None
    url = URL(found if "//" in found else f"http://{found}")
    auth = aiohttp.BasicAuth(url.user, url.password or "") if url.user else None
    return str(url.with_user(None)), auth
