"""What is looked at before anything else: how a request was sent, and from where in a browser.

A page of a stranger that is open in a browser on this machine can send requests here: with a name of its own that
resolves to 127.0.0.1 (DNS rebinding), or across origins. The first shows in the Host header, the second in Origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from madang.base.errors import InvalidInput
from madang.base.settings import Serve
from madang.serve.http import Refused, Scope

_MOST_URL_BYTES = 16 * 1024
_MOST_HEADERS, _MOST_HEADER_BYTES = 100, 32 * 1024
_REMEMBERED = 100
_SAFE = ("GET", "HEAD", "OPTIONS")
_EXPOSED = b"retry-after, x-request-id"
_Headers = tuple[tuple[bytes, bytes], ...]


class Gate:
    """Raises `Refused`, or tells which headers a browser needs with the answer."""

    def __init__(self, settings: Serve, listens: str = "") -> None:
        """`listens`: the name or address that the server listens at, which may be asked for as well."""
        self._names = frozenset(name.lower().strip("[]") for name in (*settings.hosts, listens)
                                if name and not _is_any(name))
        self._strict = bool(settings.hosts)
        self._fine = set[bytes]()      # Host headers that were looked at
        self._origins = frozenset(_origin(origin) for origin in settings.cors_origins)

    def check(self, scope: Scope, headers: Mapping[bytes, bytes], keys_needed: bool) -> _Headers:
        """One request; the headers of CORS for its answer. With keys a stranger's page has none, so that the Host only
        counts where no key is needed or [serve] hosts says which."""
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _MOST_URL_BYTES:
            raise Refused(f"the URL is longer than {_MOST_URL_BYTES:,} bytes.", 414)
        sent = scope["headers"]
        if len(sent) > _MOST_HEADERS or sum([len(name) + len(value) for name, value in sent]) > _MOST_HEADER_BYTES:
            raise Refused(f"the headers are more than {_MOST_HEADERS}, or longer than {_MOST_HEADER_BYTES:,} bytes.",
                          431)
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Refused("a compressed body is not taken.", 415, remedy="Send it without Content-Encoding.")
        if not keys_needed or self._strict:
            self._check_host(headers.get(b"host", b""))
        return self._cors(scope["method"], headers)

    def _check_host(self, host: bytes) -> None:
        if host in self._fine:
            return
        name = host_of(host.decode("latin-1"))
        if name and not (is_loopback(name) or name in self._names):
            raise Refused(f"this server is not known as {name!r:.80}.", 421,
                          remedy="Ask for it by its address, or add the name to hosts in [serve] of madang.toml.")
        if len(self._fine) < _REMEMBERED:
            self._fine.add(host)

    def _cors(self, method: str, headers: Mapping[bytes, bytes]) -> _Headers:
        sent = headers.get(b"origin")
        if sent is None:
            return ()
        origin = sent.decode("latin-1")
        if origin.lower() in self._origins:
            return ((b"access-control-allow-origin", sent), (b"vary", b"origin"),
                    (b"access-control-expose-headers", _EXPOSED))
        own = origin.lower().partition("://")[2]
        if method not in _SAFE and (not own or own != headers.get(b"host", b"").decode("latin-1").lower()):
            raise Refused(f"pages of {origin!r:.80} may not ask for this.", 403,
                          remedy="Add the origin to cors_origins in [serve] of madang.toml.")
        return ()


def preflight(headers: Mapping[bytes, bytes], cors: _Headers) -> _Headers | None:
    """The headers that answer a browser's question whether it may ask; None where this is no such question."""
    if b"access-control-request-method" not in headers or not cors:
        return None
    asked = headers.get(b"access-control-request-headers", b"content-type")
    return ((b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
            (b"access-control-allow-headers", asked), (b"access-control-max-age", b"600"))


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach it."""
    if host == "localhost" or host.endswith(".localhost"):      # RFC 6761: both are this machine
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The name in a Host header, in lower case, without its port."""
    name = header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]
    return name.lower().rstrip(".")


def _is_any(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_unspecified
    except ValueError:
        return False


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        raise InvalidInput(f"[serve] cors_origins holds {text!r:.80}, which is no origin.",
                           remedy="Write it as https://app.example.org, without a path; * is not taken.")
    return f"{parts.scheme}://{parts.netloc}".lower()
