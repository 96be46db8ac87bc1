"""E-mail addresses, IP addresses and secrets in links."""

import ipaddress
import re
from collections.abc import Iterator

from vivace.data.privacy.spans import Span

_EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%'-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?!\w)")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]|\.\d)")
_VERSION = re.compile(r"(?:\bv|version|firmware|release|build|update|driver|ios|android)[\s:]*$", re.IGNORECASE)
_URL = re.compile(r"\b(?:https?|wss?|ftp)://[^\s<>\"'\]]+|\bwww\.[^\s<>\"'\]]+", re.IGNORECASE)
_SECRET_NAME = (
    r"(?:[a-z]+[_-])*(?:tokens?|key|apikey|auth|authorization|sig|signature|session|sessionid|sid|secret|password|passwd"
    r"|pwd|code|otp|pin|jwt|reset|invite|magic|ticket|hash|nonce|state|credential)"
)
_PARAMETER = re.compile(rf"(?<=[?&#;]){_SECRET_NAME}=([^&#\s;,)]+)", re.IGNORECASE)
_USER_INFO = re.compile(r"://([^/@\s]+)@")
_OPAQUE = re.compile(r"(?<=/)(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9_-]{20,}(?=[/?#]|$)", re.ASCII)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}", re.ASCII)
_TRAILING = ".,;:!?)"


def find_emails(text: str) -> Iterator[Span]:
    """Yield e-mail addresses; two that differ in case are the same."""
    if "@" not in text:
        return
    for match in _EMAIL.finditer(text):
        local = match[0].split("@")[0]
        start = match.start() + len(local) - len(local.lstrip(".'"))
        if text[start] != "@":
            yield Span(start, match.end(), text[start : match.end()].casefold())


def find_ip_addresses(text: str) -> Iterator[Span]:
    """Yield IP addresses that can point to somebody: not private, loopback or link-local ones, not version numbers."""
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match[0])
            except ValueError:
                continue
            if _points_to_somebody(address) and not _VERSION.search(text[max(0, match.start() - 16) : match.start()]):
                yield Span(match.start(), match.end(), str(address))


def find_url_tokens(text: str) -> Iterator[Span]:
    """Yield the secret parts of links: values of parameters such as `token`, user names, long opaque path parts.

    JSON web tokens are found outside of links, too.
    """
    if "://" not in text and "www." not in text.lower() and "eyJ" not in text:
        return
    for match in _JWT.finditer(text):
        yield Span(match.start(), match.end(), match[0])
    for url in _URL.finditer(text):
        address = url[0].rstrip(_TRAILING)
        for pattern, group in ((_USER_INFO, 1), (_PARAMETER, 1), (_OPAQUE, 0)):
            for match in pattern.finditer(address):
                if not match[group].startswith("[URL_TOKEN_"):
                    yield Span(url.start() + match.start(group), url.start() + match.end(group), match[group])


def _points_to_somebody(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        groups = address.exploded.split(":")
        if sum(group != "0000" for group in groups) < 3:  # "a::b" and "::1" are code or local, seldom a customer's
            return False
        return not (address.is_link_local or address.is_loopback or address.is_multicast or groups[0].startswith("fd"))
    private = any(
        address in network
        for network in map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "0.0.0.0/8"))
    )
    return not (private or address.is_loopback or address.is_link_local or int(address) >> 28 >= 0xE)
