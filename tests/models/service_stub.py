"""A model service on loopback: a real HTTP server that plays a script and remembers what it was sent.

    with ServiceStub() as stub:
        stub.script("/v1/chat/completions", Reply(429, json={...}), stream(chunk("Hi"), DONE))
        ... stub.requests[0].json

A path plays its replies in order and repeats the last one.
"""

from __future__ import annotations

import json as jsonlib
import random
import socket
import ssl
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

from madang.base.messages import Delta, Message
from madang.base.settings import Service
from madang.models.providers.openai_compatible import OpenAICompatibleProvider

Client: TypeAlias = OpenAICompatibleProvider
DONE = b"data: [DONE]\n\n"
KEY = "sk-test-0123456789abcdef"
ASK = [Message("user", "How many days?")]


def connect(url: str, slept: list[float] | None = None, name: str = "local", **settings: Any) -> Client:
    """A provider that never waits but notes for how long it would have."""
    waits: list[float] = [] if slept is None else slept
    service = Service(**{"base_url": url, **settings})
    return Client(name, service, sleep=waits.append, rng=random.Random(7))


def refused_url() -> str:
    """An address nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def text_of(deltas: Iterable[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@dataclass(frozen=True)
class Request:
    """What came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return jsonlib.loads(self.body)


@dataclass
class Reply:
    """What goes out: `json` or `pieces`; a callable among the pieces is called in its place (to wait).

    `cut` closes the connection without the end that chunked encoding asks for.
    """

    status: int = 200
    json: Any = None
    pieces: Sequence[bytes | Callable[[], None]] = ()
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def chunk(text: str | None = None, *, finish: str | None = None, usage: dict[str, int] | None = None,
          **delta: Any) -> bytes:
    """One event of a streamed answer, as OpenAI sends it."""
    content = delta if text is None else {"content": text, **delta}
    choices = [] if usage is not None else [{"index": 0, "delta": content, "finish_reason": finish}]
    payload = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "tiny-1", "choices": choices,
               "usage": usage}
    return f"data: {jsonlib.dumps(payload, ensure_ascii=False)}\n\n".encode()


def stream(*pieces: bytes | Callable[[], None], cut: bool = False,
           content_type: str = "text/event-stream; charset=utf-8") -> Reply:
    """A streamed answer made of `pieces`, each sent in a write of its own."""
    return Reply(pieces=pieces, content_type=content_type, cut=cut)


def answer(*texts: str) -> Reply:
    """A complete, ordinary streamed answer."""
    return stream(chunk(role="assistant"), *(chunk(text) for text in texts), chunk(finish="stop"),
                  chunk(usage={"prompt_tokens": 7, "completion_tokens": len(texts)}), DONE)


def embeddings(vectors: Iterable[Sequence[float]]) -> Reply:
    """An answer to POST /embeddings."""
    data = [{"object": "embedding", "index": i, "embedding": list(v)} for i, v in enumerate(vectors)]
    return Reply(json={"object": "list", "model": "tiny-1", "data": data, "usage": {"prompt_tokens": 1}})


BUSY = Reply(503, json={"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; anything else is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class ServiceStub:
    """The server; a context manager. `key` makes it ask for that key, `tls` makes it speak https."""

    def __init__(self, key: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.gone = threading.Event()   # a client hung up while it was being answered
        self._key = key
        self._scripts: dict[str, list[Reply | Callable[[Request], Reply]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True,
                                                  do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/v1"

    def script(self, path: str, *replies: Reply | Callable[[Request], Reply]) -> None:
        """What requests to `path` get, one after the other."""
        self._scripts[path] = list(replies)

    def chat(self, *replies: Reply | Callable[[Request], Reply]) -> None:
        self.script("/v1/chat/completions", *replies)

    def sent(self, path: str = "/v1/chat/completions") -> list[Request]:
        """The requests to `path` so far."""
        return [request for request in self.requests if request.path == path]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            script = self._scripts.get(request.path)
            reply = None if not script else script[0] if len(script) == 1 else script.pop(0)
        if self._key is not None and request.headers.get("authorization") != f"Bearer {self._key}":
            return Reply(401, json={"error": {"message": "Incorrect API key provided: "
                                              + request.headers.get("authorization", "none"),
                                              "type": "invalid_request_error", "code": "invalid_api_key"}})
        if reply is None:
            return Reply(404, pieces=[b"404 page not found"], content_type="text/plain")
        return reply(request) if callable(reply) else reply

    def _handler(stub) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                stub.connections += 1

            def do_POST(self) -> None:   # named by http.server
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self._send(stub._reply(Request(self.command, self.path, headers, body)))

            do_GET = do_POST  # noqa: N815

            def _send(self, reply: Reply) -> None:
                pieces = [jsonlib.dumps(reply.json).encode()] if reply.json is not None else reply.pieces
                kind = reply.content_type or ("application/json" if reply.json is not None else None)
                try:
                    self.send_response_only(reply.status)
                    for name, value in {**({"Content-Type": kind} if kind else {}), **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for piece in pieces:
                        if callable(piece):
                            piece()
                        elif piece:
                            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    if reply.cut:
                        self.close_connection = True
                    else:
                        self.wfile.write(b"0\r\n\r\n")
                except OSError:
                    self.close_connection = True
                    stub.gone.set()

            def log_message(self, *args: object) -> None:
                pass

        return Handler
