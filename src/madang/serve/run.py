"""Listening: a socket, a server around the application, and an orderly end."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from madang.base.errors import InvalidInput, Locked
from madang.base.settings import Serve
from madang.serve.access import Access, Keys
from madang.serve.app import App
from madang.serve.connections import Connection, Heads
from madang.serve.gate import is_loopback
from madang.serve.watch import Log
from madang.workspace import Workspace

# For so long a connection may be idle. Longer than clients keep theirs (httpx 5 s, aiohttp 15 s): where both give up at
# the same moment, a request meets a connection that is being closed.
_KEPT_S = 75
_REMEMBER_TICKS = 600      # of a tenth of a second: how often the last use of keys is written down


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


def check_reachable(host: str, access: Access) -> None:
    """Raise `InvalidInput` where other machines could ask without a key."""
    if not is_loopback(host) and not access.required:
        raise InvalidInput(f"{host} can be reached from other machines, and there is no key.",
                           remedy="Make one with: madang key create NAME --scope read, or listen at 127.0.0.1.")


def serve(workspace: Workspace, settings: Serve, started: Callable[[str], None]) -> None:
    """Serve until told to stop (SIGINT, SIGTERM); what was begun is finished. `started` is told the address.

    Raises `InvalidInput` for an address that cannot be had, or that needs a key and has none.
    """
    access = Access(Keys(workspace.path))
    check_reachable(settings.host, access)
    listener = bound(settings.host, settings.port)
    log = Log(settings.log)
    try:
        app = App(workspace, access, settings, settings.host, log)
        server = _Server(app, listener)
        with _ended_by_signals(server), _written_through(workspace, listener, access):
            try:
                try:
                    workspace.store.lock.acquire()
                except Locked as error:
                    log.event("reads only until the other process has finished", reason=str(error))
                # What was loaded stays as long as the server does: nothing to look through for garbage again and again.
                gc.collect()
                gc.freeze()
                started(address_of(listener))
                server.run(sockets=[listener])
            finally:
                gc.unfreeze()
                app.close()
    finally:
        log.close()
        listener.close()


@contextmanager
def serving(workspace: Workspace, host: str = "127.0.0.1", port: int = 0, *, settings: Serve | None = None,
            access: Access | None = None, log: Log | None = None) -> Iterator[str]:
    """A server in a thread of this process, for programs and tests that want one beside them; gives its address."""
    access = access or Access(Keys(workspace.path))
    check_reachable(host, access)
    listener = bound(host, port)
    app = App(workspace, access, settings, host, log)
    server = _Server(app, listener)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="madang-serve", daemon=True)
    thread.start()
    try:
        with _written_through(workspace, listener, access):
            yield address_of(listener)      # connections wait in the socket's queue until it is ready
    finally:
        server.should_exit = True
        thread.join()
        app.close()
        listener.close()


class _Server(uvicorn.Server):
    """Tells the application when it begins and when it shall stop, and has it write down what it remembers."""

    def __init__(self, app: App, listener: socket.socket) -> None:
        bounds = {"head_timeout_s": app.settings.body_timeout_s, "heads": Heads(app)}
        super().__init__(uvicorn.Config(
            app, http=type("Connection", (Connection,), bounds), access_log=False, log_config=None,
            log_level="warning", lifespan="off", timeout_graceful_shutdown=max(1, round(app.settings.grace_s)),
            server_header=False, timeout_keep_alive=_KEPT_S, limit_concurrency=app.settings.max_connections))
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._app.ready.start()

    async def on_tick(self, counter: int) -> bool:
        if counter % _REMEMBER_TICKS == _REMEMBER_TICKS - 1:
            await asyncio.get_running_loop().run_in_executor(None, self._app.access.save_use)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.stop()           # before it waits for the requests that are under way
        await super().shutdown(sockets)


@contextmanager
def _written_through(workspace: Workspace, listener: socket.socket, access: Access) -> Iterator[None]:
    """Tell other processes where to send their writes, while this one has the lock."""
    host, port = listener.getsockname()[:2]
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    workspace.store.lock.announce((_url(here, port), access.token))
    try:
        yield
    finally:
        workspace.store.lock.announce(None)


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and SIGINT end the server in order, also before it listens to them itself. It raises them again at its
    end for whoever was there before: that is this, so that what comes after is done, too."""
    kinds = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        server.should_exit = True

    before = [signal.signal(kind, stop) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def address_of(listener: socket.socket) -> str:
    """As a URL."""
    return _url(*listener.getsockname()[:2])


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

