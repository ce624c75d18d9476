"""Tracing is emitted here and stored elsewhere: a span is timed, nested through a context variable, and
handed to whoever listens when it ends."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Span:
    """One timed piece of work. `seconds` is set when it ends."""

    name: str
    trace_id: str
    parent: Span | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    children: list[Span] = field(default_factory=list)

    def timings_ms(self) -> dict[str, float]:
        """Milliseconds of each direct child, in order, and of the whole as `total`."""
        times: dict[str, float] = {}
        for child in self.children:
            times[child.name] = round(times.get(child.name, 0.0) + child.seconds * 1e3, 2)
        times["total"] = round((self.seconds or sum(c.seconds for c in self.children)) * 1e3, 2)
        return times


_current: ContextVar[Span | None] = ContextVar("madang_span", default=None)
_listeners: list[Callable[[Span], None]] = []


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[Span]:
    """Time a block; a span opened inside another becomes its child and shares its trace id."""
    parent = _current.get()
    this = Span(name, parent.trace_id if parent else uuid.uuid4().hex, parent, attributes)
    if parent is not None:
        parent.children.append(this)
    token = _current.set(this)
    start = time.perf_counter()
    try:
        yield this
    finally:
        this.seconds = time.perf_counter() - start
        _current.reset(token)
        if parent is None:
            for listener in _listeners.copy():  # one may leave while it listens
                listener(this)


@contextmanager
def listening(listener: Callable[[Span], None]) -> Iterator[None]:
    """Hand every finished root span to `listener` while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
