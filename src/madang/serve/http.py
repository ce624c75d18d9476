"""Requests and replies of the protocols that are routed here, without a framework between: it costs more than a search.

A dialect finds a handler for a method and a path; `Door` reads the body within its limit, lets the handler answer, and
tells errors in the dialect's own words. Specification: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qs

import orjson

from madang.base.errors import InvalidInput, MadangError
from madang.serve.access import Access, Identity

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON = b"application/json"
_log = logging.getLogger("madang.serve")


class TooLarge(MadangError, ValueError):
    """A request has more bytes than the server takes."""

    code = "too_large"


@dataclass(frozen=True, slots=True)
class Reply:
    """`body`: whole, or piece by piece as it is made."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def as_json(content: Any, status: int = 200) -> Reply:
    """A reply of JSON."""
    return Reply(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS), status)


@dataclass(slots=True)
class Request:
    """`path` is the part of it that the dialect named; `parts` what the route's braces took from it."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    query_string: bytes
    body: bytes
    identity: Identity
    base_url: str = ""                     # under which the caller knows this server
    parts: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: bytes) -> str:
        """A header by its lower-case name; "" where it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    def parameters(self) -> dict[str, list[str]]:
        """The query string."""
        return parse_qs(self.query_string.decode("latin-1"), keep_blank_values=True)

    def json(self) -> Any:
        """The body. Raises `InvalidInput` where it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"the body is not JSON: {error}.") from None


Handler: TypeAlias = Callable[[Request], Reply | Awaitable[Reply]]


class Dialect(Protocol):
    """One protocol."""

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]] | None:
        """Who answers, and what the path says; None where it is not this protocol's."""
        ...

    def key(self, headers: Mapping[bytes, bytes]) -> str:
        """The key that a request brought; "" for none."""
        ...

    def refused(self, error: MadangError, headers: Mapping[bytes, bytes]) -> Reply:
        """An error in this protocol's words."""
        ...


class Door:
    """Answers the requests of dialects."""

    def __init__(self, access: Access, most_bytes: int) -> None:
        """`most_bytes` of a request's body."""
        self._access, self._most_bytes = access, most_bytes

    async def answer(self, dialect: Dialect, handler: Handler, parts: Mapping[str, str], scope: Scope,
                     receive: Receive, send: Send) -> None:
        """One request, from its body to its reply."""
        headers = dict(scope["headers"])
        try:
            identity = self._access.identify(dialect.key(headers))
            body = await self._body(headers, receive)
            if body is None:
                return
            request = Request(scope["method"], scope["path"], headers, scope["query_string"], body, identity,
                              base_url(scope, headers), parts)
            made = handler(request)
            reply = await made if isawaitable(made) else made
        except MadangError as error:
            reply = dialect.refused(error, headers)
        except Exception as error:  # a defect: told without what it may reveal, and written down
            _log.exception("%s %s failed", scope["method"], scope["path"])
            reply = dialect.refused(MadangError(f"the server failed ({type(error).__name__}); its log says more."),
                                    headers)
        await _send(reply, receive, send)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """None where the caller went away."""
        told = headers.get(b"content-length", b"")
        if told.isdigit() and int(told) > self._most_bytes:
            raise self._too_large(int(told))
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            if len(body) > self._most_bytes:
                raise self._too_large(len(body))
            return body
        pieces, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._most_bytes:
                raise self._too_large(size)
        return b"".join(pieces)

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(f"the request has {size:,} bytes or more; at most {self._most_bytes:,} are taken.",
                        remedy="Send it in several requests, or raise max_body_mb in [serve] of madang.toml.")


def base_url(scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """The address under which the caller knows this server."""
    host = headers.get(b"host", b"").decode("latin-1")
    if not host:
        name, port = scope.get("server") or ("127.0.0.1", 80)
        host = f"{name}:{port}"
    return f"{scope.get('scheme', 'http')}://{host}{scope.get('root_path', '')}"


async def _send(reply: Reply, receive: Receive, send: Send) -> None:
    headers = [(b"content-type", reply.type), *reply.headers] if reply.type else list(reply.headers)
    if isinstance(reply.body, bytes):
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if isinstance(reply.body, bytes):
        await send({"type": "http.response.body", "body": reply.body})
    else:
        await _send_pieces(reply.body, receive, send)


async def _send_pieces(pieces: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Until they end or the caller goes away; then what makes them is stopped."""
    gone = asyncio.ensure_future(_gone(receive))
    try:
        while True:
            made: asyncio.Future[bytes | None] = asyncio.ensure_future(anext(pieces, None))
            await asyncio.wait((made, gone), return_when=asyncio.FIRST_COMPLETED)
            if not made.done():
                made.cancel()
                await asyncio.wait((made,))
                return
            piece = made.result()
            if piece is None:
                break
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
