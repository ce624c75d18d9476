"""Fetching a URL that a caller names, without becoming the caller's way into this network.

The rules against server-side request forgery (OWASP's cheat sheet of that name, CWE-918): http and https only; every
address that a name resolves to must be public, also those hidden in an IPv6 address; the connection goes to the address
that was checked, so that a second resolution cannot name another; each redirect is checked like the first URL; sizes
and times are bounded, and nothing is decompressed.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

import httpx

from madang.base.errors import InvalidInput, ServiceError
from madang.base.settings import Serve

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]
_PORTS = {"http": 80, "https": 443}
_MOST_REDIRECTS = 5
_MOST_URL = 8192
_CONNECT_S = 5.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")      # RFC 6052: the last 32 bits are an IPv4 address


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: `url` where it came from in the end, `type` its media type without parameters."""

    body: bytes
    type: str
    url: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be fetched."""

    allowed: bool = True
    hosts: tuple[str, ...] = ()                # where there are any, these only; *.example.org for all below
    private: bool = False                      # also addresses that only this network reaches, and any port
    most_bytes: int = 20_000_000
    timeout_s: float = 20.0                    # for all of it, redirects included

    @classmethod
    def of(cls, settings: Serve) -> Rules:
        """Those of [serve]."""
        return cls(settings.fetch_urls, settings.fetch_hosts, settings.allow_private_urls,
                   int(settings.max_fetch_mb * 1_000_000), settings.fetch_timeout_s)


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, as the system knows them. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(slots=True)
class Fetcher:
    """Fetches by the rules; `resolver` tells the addresses of a name. Safe to use from several threads."""

    rules: Rules
    resolver: Resolver = field(default=resolve)

    def fetch(self, url: str, types: Sequence[str] = ()) -> Fetched:
        """Get a URL; blocks for at most about `timeout_s`.

        Args:
            types: media types that are wanted, e.g. ("image/",): what the type begins with. Empty: any.

        Raises:
            InvalidInput: the rules refuse the URL, where it leads, or what came. ServiceError: nothing useful came.
        """
        if not self.rules.allowed:
            raise InvalidInput("this server fetches no URLs.",
                               remedy="Send the content itself, or set fetch_urls in [serve] of madang.toml.")
        until = time.monotonic() + self.rules.timeout_s
        # No proxies of the environment: they would resolve the name again.
        with httpx.Client(trust_env=False, follow_redirects=False) as client:
            for _ in range(_MOST_REDIRECTS + 1):
                found = self._get(client, url, types, until)
                if isinstance(found, Fetched):
                    return found
                url = found
        raise InvalidInput(f"the URL redirects more than {_MOST_REDIRECTS} times.")

    def _get(self, client: httpx.Client, url: str, types: Sequence[str], until: float) -> Fetched | str:
        """What came, or where it leads."""
        target = self._checked(url)
        request = client.build_request("GET", target.pinned, headers={
            "Host": target.header, "Accept": ", ".join(f"{kind}*" if kind.endswith("/") else kind for kind in types)
            or "*/*", "Accept-Encoding": "identity", "User-Agent": "madang"}, timeout=self._left(until),
            extensions={"sni_hostname": target.host})      # also what the certificate must be for
        try:
            answer = client.send(request, stream=True)
            try:
                if answer.has_redirect_location:
                    return _joined(url, str(answer.headers["location"]))
                return Fetched(self._body(answer, types, until), _type(answer), url)
            finally:
                answer.close()
        except httpx.TimeoutException:
            raise self._too_slow() from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceError(f"the URL could not be fetched ({type(error).__name__}).", kind="unreachable",
                               remedy="Check that it can be reached from the server.") from None

    def _body(self, answer: httpx.Response, types: Sequence[str], until: float) -> bytes:
        if answer.status_code != 200:
            raise ServiceError(f"the URL answers with status {answer.status_code}.", kind="protocol")
        kind = _type(answer)
        if types and not any(kind.startswith(wanted) for wanted in types):
            raise InvalidInput(f"the URL gives {kind or 'no type'!r:.80}, not {' or '.join(types)}.")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise InvalidInput("the URL gives compressed content, which was not asked for.")
        pieces, size = [], 0
        for piece in answer.iter_raw():
            size += len(piece)
            if size > self.rules.most_bytes:
                raise InvalidInput(f"the URL gives more than {self.rules.most_bytes:,} bytes.",
                                   remedy="Use a smaller file, or raise max_fetch_mb in [serve] of madang.toml.")
            pieces.append(piece)
            self._left(until)
        return b"".join(pieces)

    def _left(self, until: float) -> httpx.Timeout:
        left = until - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        return httpx.Timeout(left, connect=min(_CONNECT_S, left))

    def _too_slow(self) -> ServiceError:
        return ServiceError(f"the URL did not come within {self.rules.timeout_s:g} s.", kind="timeout", retryable=True)

    def _checked(self, url: str) -> _Target:
        """Where to connect to. Raises `InvalidInput` for what the rules refuse."""
        target = _parsed(url)
        if self.rules.hosts and not any(_fits(target.host, pattern) for pattern in self.rules.hosts):
            raise InvalidInput(f"URLs of {target.host!r:.80} are not fetched.",
                               remedy="Add the host to fetch_hosts in [serve] of madang.toml.")
        if not self.rules.private and target.port != _PORTS[target.scheme]:
            raise InvalidInput(f"URLs with port {target.port} are not fetched.")
        try:
            addresses = self.resolver(target.host, target.port)
        except (OSError, UnicodeError):
            raise InvalidInput(f"the host {target.host!r:.80} of the URL is not known.") from None
        if not addresses:
            raise InvalidInput(f"the host {target.host!r:.80} of the URL has no address.")
        if not self.rules.private and not all(is_public(address) for address in addresses):
            # Which address it is stays here: a caller could map this network with it.
            raise InvalidInput(f"the host {target.host!r:.80} of the URL is not a public one.",
                               remedy="Send the content itself, or set allow_private_urls in [serve] of madang.toml.")
        target.address = addresses[0]
        return target


@dataclass(slots=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str
    address: str = ""

    @property
    def header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def pinned(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{address}:{self.port}{self.path}"


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise InvalidInput("the URL redirects to one that is none.") from None


def _parsed(url: str) -> _Target:
    if not isinstance(url, str) or len(url) > _MOST_URL or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise InvalidInput("the URL is too long, or holds spaces or control characters.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        host = host if host.isascii() else host.encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        raise InvalidInput("the URL is none.", remedy="Write it as https://host/path.") from None
    if parts.scheme not in _PORTS or not host:
        raise InvalidInput(f"URLs of the kind {parts.scheme!r:.20} are not fetched.", remedy="Use http or https.")
    if parts.username is not None or parts.password is not None or "\\" in url or "%" in host:
        raise InvalidInput("the URL names a user, or a host that is none.", remedy="Write it as https://host/path.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(parts.scheme, host, _PORTS[parts.scheme] if port is None else port, path)


def is_public(address: str) -> bool:
    """Whether an address is one of the Internet at large, also by what is hidden in it: IPv4 in IPv6, 6to4, Teredo,
    NAT64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:         # with a zone, for one: those are local
        return False
    return all(_is_public(each) for each in _meant(found))


def _is_public(address: Address) -> bool:
    return address.is_global and not (
        address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        or address.is_reserved or address.is_unspecified)


def _meant(address: Address) -> list[Address]:
    """The addresses that packets may go to."""
    if not isinstance(address, ipaddress.IPv6Address):
        return [address]
    if address.ipv4_mapped is not None or address in _NAT64:       # the IPv4 address itself, written differently
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    within = (address.sixtofour, *(address.teredo or ()))
    return [address, *(each for each in within if each is not None)]


def _fits(host: str, pattern: str) -> bool:
    pattern = pattern.lower().rstrip(".")
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _type(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", "")).partition(";")[0].strip().lower()
