"""Who may use the server: API keys, and loopback alone where there are none."""

import hashlib
import hmac
import ipaddress
import os
from collections.abc import Iterable, Mapping

from vivace.config.settings import ServeSettings
from vivace.errors import ConfigError


def resolve_keys(settings: ServeSettings, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the keys that `api_keys` refers to; raises `ConfigError` for a variable that is missing or unusable."""
    variables = os.environ if environment is None else environment
    keys = []
    for reference in settings.api_keys:
        name = reference.removeprefix("env:")
        key = variables.get(name, "")
        if not key:
            raise ConfigError(
                f"serve.api_keys names the environment variable {name!r}, which is not set.",
                f"Set it: export {name}=…",
            )
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"The key in the environment variable {name!r} cannot be sent in an HTTP header.",
                "Use printable ASCII characters without spaces.",
            )
        keys.append(key)
    return tuple(keys)


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can be reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(settings: ServeSettings, keys: Iterable[str]) -> None:
    """Refuse to offer a server without keys to other machines."""
    if not tuple(keys) and not is_loopback(settings.host):
        raise ConfigError(
            f"serve.host is {settings.host!r}, which other machines can reach, and serve.api_keys is empty.",
            'Name a key, such as api_keys = ["env:VIVACE_API_KEY"], or listen on 127.0.0.1.',
        )


class KeyRing:
    """The keys that are let in; only their SHA-256 hashes are kept."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._hashes = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def admits(self, key: bytes) -> bool:
        """Compare with every key in constant time."""
        given = hashlib.sha256(key).digest()
        admitted = False
        for known in self._hashes:
            admitted |= hmac.compare_digest(given, known)
        return admitted
