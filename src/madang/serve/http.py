"""Requests and replies of the protocols that are routed here, without a framework between: it costs more than a search.

A dialect finds a handler for a method and a path; `Door` reads the body within its limit, lets the handler answer, and
tells errors in the dialect's own words. Specification: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qs

import orjson

from madang.base.errors import InvalidInput, MadangError
from madang.serve.access import Identity, NotAllowed
from madang.serve.limits import Later

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON = b"application/json"
_T = TypeVar("_T")
_SLOWEST = 16_384          # bytes a second that a long body has to come with, beside the time that it has anyway
WHOLE = "madang.whole"      # in a request's scope: its body has come, and is not to be waited for
COUNTED = "madang.counted"  # it was counted against its caller's rate already
_log = logging.getLogger("madang.serve")


class TooLarge(MadangError, ValueError):
    """A request has more bytes than the server takes."""

    code = "too_large"


class Refused(MadangError, ValueError):
    """A request is refused for how it was sent, whatever it asks for. `status` is HTTP's word for why."""

    code = "refused"

    def __init__(self, message: str, status: int, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class NotAtOnce(Exception):
    """A request takes too long to be answered before anything else is done."""


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
    receive: Receive | None = None         # what comes after the body: that the caller went away
    at_once: bool = False                  # it must be answered before anything else is done, or raise `NotAtOnce`

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


class Bodies:
    """Reads bodies within their bounds: `most_bytes`, `timeout_s` without a piece, and 16 KB/s of a long one."""

    def __init__(self, most_bytes: int, timeout_s: float, setting: str = "max_body_mb") -> None:
        self._most_bytes, self._timeout_s, self._setting = most_bytes, timeout_s, setting

    async def whole(self, headers: Mapping[bytes, bytes], receive: Receive, there: bool = False) -> bytes | None:
        """None where the caller went away; `there`: it need not be waited for. Raises `TooLarge`, or `Refused` for a
        body that does not come."""
        self.check(headers)
        if there:
            message: Mapping[str, Any] = await receive()
        else:
            message = await self._next(receive, asyncio.get_running_loop().time(), 0)
        if message["type"] == "http.request" and not message.get("more_body"):      # most bodies come at once
            body: bytes = message.get("body", b"")
            if len(body) > self._most_bytes:
                raise self._too_large(f"{len(body):,}")
            return body
        pieces = [piece async for piece in self._rest(message, receive)]
        return None if pieces[-1] is None else b"".join(piece for piece in pieces if piece)

    async def pieces(self, headers: Mapping[bytes, bytes], receive: Receive) -> AsyncIterator[bytes | None]:
        """Piece by piece; None at the end where the caller went away. Raises as `whole`."""
        self.check(headers)
        message = await self._next(receive, asyncio.get_running_loop().time(), 0)
        async for piece in self._rest(message, receive):
            yield piece

    async def _rest(self, message: Mapping[str, Any], receive: Receive) -> AsyncIterator[bytes | None]:
        started, size = asyncio.get_running_loop().time(), 0
        while message["type"] != "http.disconnect":
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._most_bytes:
                raise self._too_large(f"{size:,} or more")
            yield piece
            if not message.get("more_body"):
                return
            message = await self._next(receive, started, size)
        yield None

    async def _next(self, receive: Receive, started: float, size: int) -> Mapping[str, Any]:
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(min(now, started + size / _SLOWEST) + self._timeout_s):
                return await receive()
        except TimeoutError:
            raise Refused(f"the body did not come within {self._timeout_s:g} s.", 408,
                          remedy="Send it faster, or raise body_timeout_s in [serve] of madang.toml.") from None

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise `TooLarge` where the body is said to be."""
        told = headers.get(b"content-length", b"")
        if told.isdigit() and (len(told) > 18 or int(told) > self._most_bytes):
            raise self._too_large(told.decode()[:20])

    def _too_large(self, size: str) -> TooLarge:
        return TooLarge(f"the request has {size} bytes; at most {self._most_bytes:,} are taken.",
                        remedy=f"Send it in several requests, or raise {self._setting} in [serve] of madang.toml.")


class Door:
    """Answers the requests of dialects."""

    def __init__(self, admit: Callable[[str, Scope], Identity], bodies: Bodies,
                 cleaned: Callable[[MadangError], MadangError] = lambda error: error) -> None:
        """`admit` tells who a key stands for, or refuses it; `cleaned` takes out of an error what only this machine
        may know."""
        self._admit, self._bodies, self._cleaned = admit, bodies, cleaned

    async def answer(self, dialect: Dialect, handler: Handler, parts: Mapping[str, str], scope: Scope,
                     headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> str:
        """One request, from its body to its reply; returns the name of the key that asked."""
        identity = None
        try:
            identity = self._admitted(dialect, parts, scope, headers)
            body = await self._bodies.whole(headers, receive, WHOLE in scope)
            if body is None:
                return identity.name
            request = Request(scope["method"], scope["path"], headers, scope["query_string"], body, identity,
                              base_url(scope, headers), parts, receive)
            made = handler(request)
            reply = made if isinstance(made, Reply) else await made
        except Exception as error:
            reply = self._failed(error, dialect, scope, headers)
        await send_reply(reply, send, receive)
        return "" if identity is None else identity.name

    def at_once(self, dialect: Dialect, handler: Handler, parts: Mapping[str, str], scope: Scope,
                headers: Mapping[bytes, bytes], body: bytes) -> tuple[Reply, str]:
        """The same for a request that is all there: its reply, and the name of the key. Raises `NotAtOnce`."""
        name = ""
        try:
            identity = self._admitted(dialect, parts, scope, headers)
            name = identity.name
            made = handler(Request(scope["method"], scope["path"], headers, scope["query_string"], body, identity,
                                   "", parts, at_once=True))
            assert isinstance(made, Reply)
        except NotAtOnce:
            raise
        except Exception as error:
            made = self._failed(error, dialect, scope, headers)
        return made, name

    def _admitted(self, dialect: Dialect, parts: Mapping[str, str], scope: Scope,
                  headers: Mapping[bytes, bytes]) -> Identity:
        identity = self._admit(dialect.key(headers), scope)
        if identity.collections is not None and "index" in parts:
            return identity.at(parts["index"])     # a dialect's index is a collection
        return identity

    def _failed(self, error: Exception, dialect: Dialect, scope: Scope, headers: Mapping[bytes, bytes]) -> Reply:
        if isinstance(error, MadangError):
            return refusal(dialect, self._cleaned(error), headers)
        # A defect: told without what it may reveal, and written down.
        _log.error("%s failed", scope["method"], exc_info=error)
        return dialect.refused(MadangError(f"the server failed ({type(error).__name__}); its log says more."), headers)


def refusal(dialect: Dialect, error: MadangError, headers: Mapping[bytes, bytes]) -> Reply:
    """An error in a dialect's words, with what every protocol says in headers."""
    reply = dialect.refused(error, headers)
    more = headers_of(error)
    return replace(reply, headers=(*reply.headers, *more)) if more else reply


def headers_of(error: MadangError) -> tuple[tuple[bytes, bytes], ...]:
    """When to come again; which header a key belongs in; that the rest of a body is not read."""
    if isinstance(error, Later):
        return ((b"retry-after", str(error.retry_after_s).encode()),)
    if isinstance(error, NotAllowed) and not error.known:
        return ((b"www-authenticate", b"Bearer"),)
    if isinstance(error, TooLarge | Refused):
        return ((b"connection", b"close"),)
    return ()


def base_url(scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """The address under which the caller knows this server."""
    host = headers.get(b"host", b"").decode("latin-1")
    if not host:
        name, port = scope.get("server") or ("127.0.0.1", 80)
        host = f"{name}:{port}"
    return f"{scope.get('scheme', 'http')}://{host}{scope.get('root_path', '')}"


async def send_reply(reply: Reply, send: Send, receive: Receive | None = None) -> None:
    """Send it. Where it is made piece by piece and `receive` tells that the caller went away, what
    makes it is stopped."""
    headers = [(b"content-type", reply.type), *reply.headers] if reply.type else list(reply.headers)
    if isinstance(reply.body, bytes):
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if isinstance(reply.body, bytes):
        await send({"type": "http.response.body", "body": reply.body})
    else:
        await _send_pieces(reply.body, send, receive)


async def _send_pieces(pieces: AsyncIterator[bytes], send: Send, receive: Receive | None) -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if receive is not None:
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


async def unless_gone(call: Coroutine[Any, Any, _T], receive: Receive | None) -> _T:
    """The result of a long call, which is cancelled when the caller goes away. Raises `Refused` then, unheard."""
    if receive is None:
        return await call
    made, gone = asyncio.ensure_future(call), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((made, gone), return_when=asyncio.FIRST_COMPLETED)
        if not made.done():
            raise Refused("the caller went away.", 499)
        return made.result()
    finally:
        gone.cancel()
        if not made.done():
            made.cancel()
            await asyncio.wait((made,))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
