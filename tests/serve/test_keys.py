"""Keys come from the environment, and a server without keys stays on this machine."""

import pytest

from vivace.config.settings import ServeSettings
from vivace.errors import ConfigError
from vivace.serve.keys import KeyRing, check_exposure, is_loopback, resolve_keys


def test_keys_are_read_from_the_variables_that_settings_name() -> None:
    settings = ServeSettings(api_keys=["env:A", "env:B"])
    assert resolve_keys(settings, {"A": "one", "B": "two", "C": "three"}) == ("one", "two")


@pytest.mark.parametrize("environment", [{}, {"A": ""}])
def test_a_missing_key_is_an_error_that_names_its_variable(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="'A'"):
        resolve_keys(ServeSettings(api_keys=["env:A"]), environment)


@pytest.mark.parametrize("key", ["two words", "line\n", "clé-secrète", "tab\t"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_keys(ServeSettings(api_keys=["env:A"]), {"A": key})
    assert key not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    check_exposure(ServeSettings(host=host), ())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.org", "localhost.example.org"])
def test_any_other_address_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="api_keys"):
        check_exposure(ServeSettings(host=host), ())
    check_exposure(ServeSettings(host=host), ("key",))


def test_a_key_ring_keeps_hashes_only() -> None:
    ring = KeyRing(("secret-key",))
    assert ring.admits(b"secret-key")
    assert not ring.admits(b"secret-kez")
    assert not KeyRing(()).admits(b"")
    assert "secret-key" not in repr(vars(ring))
