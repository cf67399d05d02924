"""Where a webhook may go: the URL a client gave, and which network addresses are refused.

Must not know what is sent there.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_URL_LENGTH = 2048

Resolve = Callable[[str, int], Sequence[str]]  # all addresses of a host; raises OSError

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]*")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_DEFAULT_PORT = {"https": 443, "http": 80}
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC = (  # besides what `ipaddress` of every supported Python knows
    ipaddress.ip_network("192.0.0.0/24"),  # protocol assignments
    ipaddress.ip_network("192.88.99.0/24"),  # what 6to4 relays had
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's host, from inside any of its machines: metadata and keys
    ipaddress.ip_network("2001::/23"),  # protocol assignments: Teredo, ORCHID, benchmarks
    ipaddress.ip_network("2002::/16"),  # 6to4: its relays are gone, and it wraps any IPv4 address
    ipaddress.ip_network("3fff::/20"),  # documentation
)


class ForbiddenTarget(ValueError):
    """A webhook must not go there; the message says why and what is accepted."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart, once, so that what was checked is what is connected to."""

    scheme: str  # https or http
    host: str  # a name or an address, without brackets
    port: int
    path: str  # with the query

    @property
    def is_encrypted(self) -> bool:
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str, *, allow_private: bool) -> Target:
    """Everything that can be said without asking a name server. Raises ForbiddenTarget.

    `allow_private`: plain http, loopback and private networks too; for development.
    """
    target = _split(url)
    if allow_private:
        return target
    if not target.is_encrypted:
        raise ForbiddenTarget("expected an https URL")
    if target.host == "localhost" or target.host.endswith(".localhost"):
        raise ForbiddenTarget(f"{target.host} is this machine; expected a public host")
    literal = _literal_address(target.host)
    if literal is not None:
        refuse_unless_public([literal])
    return target


def refuse_unless_public(addresses: Sequence[str]) -> None:
    """One that is not public is enough: a name that has both could be asked again until the wrong one is used.

    Raises ForbiddenTarget, without the address: what an internal name resolves to is not the client's to learn.
    """
    if not all(is_public(address) for address in addresses):
        raise ForbiddenTarget("the host is not on the public internet")


def is_public(address: str) -> bool:
    """Whether the address is one of the public internet, whatever IPv6 form it is wrapped in."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        wrapped = parsed.ipv4_mapped or _nat64_target(parsed)
        if wrapped is not None:
            return is_public(str(wrapped))
        if parsed not in _GLOBAL_UNICAST:  # so no loopback, link-local, unique local, site-local, multicast …
            return False
    if any(parsed in network for network in _NEVER_PUBLIC if network.version == parsed.version):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def resolve_host(host: str, port: int) -> list[str]:
    """All its addresses, as the system resolves names. Raises OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label of more than 63 characters
        raise OSError("not a host name") from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def _split(url: str) -> Target:
    if len(url) > MAX_URL_LENGTH:
        raise ForbiddenTarget(f"a URL may have at most {MAX_URL_LENGTH} characters")
    if not _VISIBLE_ASCII.fullmatch(url):
        raise ForbiddenTarget("expected visible ASCII only: percent-encode the path, write the host in its xn-- form")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ForbiddenTarget("expected a URL such as https://example.com/hook") from error
    if parts.scheme not in _DEFAULT_PORT or not host or port == 0:
        raise ForbiddenTarget("expected a URL such as https://example.com/hook")
    if "@" in parts.netloc:
        raise ForbiddenTarget("user names and passwords in the URL are refused: webhooks are signed instead")
    host = host.removesuffix(".")
    if _literal_address(host) is None and not _NAME.fullmatch(host):
        raise ForbiddenTarget("expected a host name of letters, digits, hyphens and dots")
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.scheme, host, port or _DEFAULT_PORT[parts.scheme], path + query)


def _literal_address(host: str) -> str | None:
    """The address a host is written as, in the old forms (127.1, 0x7f000001) too; None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _nat64_target(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
