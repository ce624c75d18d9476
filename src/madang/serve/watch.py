"""What happened: a line for each request, and numbers for Prometheus. Neither holds a key, a document or a query.

Paths are told by their template ("/i/{index}/query"), so that names and ids stay out and there are few of them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TextIO
from urllib.parse import unquote

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from madang.base.errors import MadangError
from madang.store import Collection
from madang.workspace import Workspace

_SECONDS = (.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60)
_MOST_ROUTES = 500
_EVERY_S = 0.1
_MOST_LINES = 10_000               # that wait to be written; beyond that lines are lost, not requests
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Log:
    """Writes lines in a thread of its own: a terminal that stands still must not stop the server. It wakes now and then
    and not for each line, since each change of threads costs more than a search."""

    def __init__(self, form: str, stream: TextIO | None = None) -> None:
        """`form`: "text", "json" or "off". `stream`: standard error."""
        self._form, self._stream = form, stream
        self._lines, self._closing = deque[str](), threading.Event()
        self._thread: threading.Thread | None = None
        if form != "off":
            self._thread = threading.Thread(target=self._write, name="madang-log", daemon=True)
            self._thread.start()

    def request(self, request_id: bytes, method: str, route: str, status: int, seconds: float, size: int, key: str,
                client: str) -> None:
        """One request, when its answer is out."""
        if self._thread is None:
            return
        now = datetime.now(UTC)
        if self._form == "json":
            line = orjson.dumps({
                "time": now.isoformat(timespec="milliseconds"), "event": "request", "id": request_id.decode(),
                "method": method, "route": route, "status": status, "ms": round(seconds * 1e3, 2), "bytes": size,
                "key": key or None, "client": client}).decode()
        else:
            line = f"{now:%H:%M:%S} {method} {route} {status} {seconds * 1e3:.1f} ms {request_id.decode()}"
        self._put(line)

    def event(self, event: str, **fields: str | int | float) -> None:
        """Anything else."""
        if self._thread is None:
            return
        now = datetime.now(UTC)
        if self._form == "json":
            self._put(orjson.dumps({"time": now.isoformat(timespec="milliseconds"), "event": event, **fields}).decode())
        else:
            self._put(f"{now:%H:%M:%S} {event} " + " ".join(f"{name}={value}" for name, value in fields.items()))

    def _put(self, line: str) -> None:
        if len(self._lines) < _MOST_LINES:
            self._lines.append(line)

    def _write(self) -> None:
        stream, last = self._stream or sys.stderr, False
        while not last:
            last = self._closing.wait(_EVERY_S)
            count = len(self._lines)
            if not count:
                continue
            text = "\n".join([self._lines[place] for place in range(count)]) + "\n"
            try:
                stream.write(text)
                stream.flush()
            except (OSError, ValueError):      # nobody reads any more
                pass
            for _ in range(count):             # only now: what cannot be written fills the line up
                self._lines.popleft()

    def close(self) -> None:
        """Write what waits, as long as somebody reads it."""
        if self._thread is not None:
            self._closing.set()
            self._thread.join(2)
            self._thread = None


class Metrics:
    """The numbers of one server."""

    def __init__(self, workspace: Workspace, waiting: Callable[[], Mapping[str, int]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("madang_requests", "Requests answered.", ("method", "route", "status"),
                                 registry=self._registry)
        self._seconds = Histogram("madang_request_seconds", "Time from a request's headers to the end of its answer.",
                                  ("method", "route"), buckets=_SECONDS, registry=self._registry)
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=self._registry)
        self._registry.register(_Stored(workspace, waiting))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request."""
        found = self._children.get((method, route, status))
        if found is None:
            found = self._child(method, route, status)
        found[0].inc()
        found[1].observe(seconds)

    def _child(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        if len(self._children) >= _MOST_ROUTES:        # nobody may fill the memory with routes
            route = "other"
        method = method if method in _METHODS else "other"
        made = self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)
        if len(self._children) < 2 * _MOST_ROUTES:
            self._children[method, route, status] = made
        return made

    def text(self) -> bytes:
        """All of them, in Prometheus's text format."""
        # The library also tells when it first heard of each route, which triples the text for nobody.
        return b"".join(line for line in generate_latest(self._registry).splitlines(keepends=True)
                        if b"_seconds_created" not in line and b"_requests_created" not in line)


class _Stored:
    """What is counted when it is asked for: collections that are open, and work that waits."""

    def __init__(self, workspace: Workspace, waiting: Callable[[], Mapping[str, int]]) -> None:
        self._workspace, self._waiting, self._started = workspace, waiting, time.time()

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("madang_start_time_seconds", "When the server started.", value=self._started)
        yield GaugeMetricFamily("madang_collections", "Collections of the workspace.",
                                value=len(self._workspace.collections()))
        work = GaugeMetricFamily("madang_work_waiting", "Calls under way or in line.", labels=("kind",))
        for kind, count in self._waiting().items():
            work.add_metric((kind,), count)
        yield work
        records = GaugeMetricFamily("madang_records", "Records of an open collection.", labels=("collection",))
        behind = GaugeMetricFamily("madang_index_waiting", "Vectors that the index has not absorbed; they are compared "
                                   "exactly.", labels=("collection",))
        searches = CounterMetricFamily("madang_searches", "Searches of an open collection.", labels=("collection",))
        compared = CounterMetricFamily("madang_search_compared", "Vectors, or codes of them, that searches compared.",
                                       labels=("collection",))
        for name, collection in self._workspace.opened().items():
            self._of(collection, name, records, behind, searches, compared)
        yield from (records, behind, searches, compared)

    def _of(self, collection: Collection, name: str, records: GaugeMetricFamily, behind: GaugeMetricFamily,
            searches: CounterMetricFamily, compared: CounterMetricFamily) -> None:
        try:
            counted = collection.counted()
        except MadangError:        # dropped, or damaged: that is told elsewhere
            return
        records.add_metric((name,), counted.records)
        behind.add_metric((name,), counted.waiting)
        searches.add_metric((name,), counted.searches)
        compared.add_metric((name,), counted.compared)


def template(path: str, parts: Mapping[str, str]) -> str:
    """A path with the names of its parts in place of what the caller wrote: each takes the first segment that is it."""
    if not parts:
        return path
    segments = path.split("/")
    for name, value in parts.items():
        for place, segment in enumerate(segments):
            if place > 1 and (segment == value or unquote(segment) == value):
                segments[place] = f"{{{name}}}"
                break
    return "/".join(segments)
