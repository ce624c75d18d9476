"""Listening: a socket, a server around the application, and an orderly end."""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from madang.base.errors import InvalidInput
from madang.serve.app import App
from madang.workspace import Workspace

_GRACE_S = 30          # for requests that are under way when the server is told to stop
_log = logging.getLogger("madang.serve")


def bound(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 chooses a free one. Raises `InvalidInput` for an address that cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError) as error:
        raise InvalidInput(f"cannot listen at {host}:{port}: {error}.",
                           remedy="Name an address of this machine.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        remedy = ("Another program listens there; stop it or choose another --port."
                  if error.errno == errno.EADDRINUSE else "Choose another --host or --port.")
        raise InvalidInput(f"cannot listen at {host}:{port}: {error.strerror or error}.", remedy=remedy) from None
    return listener


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def serve(workspace: Workspace, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve until told to stop (SIGINT, SIGTERM); what was begun is finished. `started` is told the address."""
    listener = bound(host, port)
    app = App(workspace)
    try:
        server = uvicorn.Server(_config(app))
        started(address_of(listener))
        server.run(sockets=[listener])
    finally:
        app.close()
        listener.close()


@contextmanager
def serving(workspace: Workspace, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A server in a thread of this process, for programs and tests that want one beside them; gives its address."""
    listener = bound(host, port)
    app = App(workspace)
    server = uvicorn.Server(_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="madang-serve", daemon=True)
    thread.start()
    try:
        yield address_of(listener)      # connections wait in the socket's queue until it is ready
    finally:
        server.should_exit = True
        thread.join()
        app.close()
        listener.close()


def address_of(listener: socket.socket) -> str:
    """As a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(app, http="httptools", access_log=False, log_config=None, log_level="warning",
                          lifespan="off", timeout_graceful_shutdown=_GRACE_S, server_header=False)
