"""How a service is treated that is slow, busy or down: so many requests at a time, when to try again, when to leave it
alone. Knows no HTTP.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Literal, TypeAlias

from madang.base.errors import ServiceError

State: TypeAlias = Literal["closed", "open", "half_open"]
FIRST_WAIT_S = 0.5               # before the second attempt; doubles up to the longest
LONGEST_WAIT_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0     # a service may ask for hours; nobody waits that long for an answer
# What says that a service is down. One that refuses a request, or asks for patience, is up.
BROKEN = frozenset({"unreachable", "timeout", "server"})


def wait_s(attempt: int, asked_s: float | None, rng: random.Random) -> float:
    """How long to wait after attempt number `attempt` (1-based): exponential backoff with full jitter, unless the
    service says how long (`asked_s`). M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    if asked_s is not None:
        return min(asked_s, LONGEST_RETRY_AFTER_S)
    return rng.uniform(0.0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempt - 1, 16)))


class Slots:
    """At most `count` requests of `service` at a time; who comes later waits, up to `patience_s`. Threads share it."""

    def __init__(self, service: str, count: int, patience_s: float) -> None:
        self._service, self._count, self._patience_s = service, count, patience_s
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Holds one while the block runs. Raises `ServiceError` (kind "timeout") where none became free."""
        if not self._free.acquire(timeout=min(self._patience_s, threading.TIMEOUT_MAX)):
            raise ServiceError(
                f"service {self._service!r} has {self._count} requests under way, and none ended within "
                f"{self._patience_s:g} s.", kind="timeout", retryable=True,
                remedy=f"Ask less at a time, or raise concurrency in [services.{self._service}].")
        try:
            yield
        finally:
            self._free.release()


class Breaker:
    """Leaves a service alone that failed `after` calls in a row, for `rest_s` seconds; then one call probes it.

    closed: all calls pass. open: none. half_open: the rest is over; the next call passes as a probe, the others do not
    until it has ended. The probe's success closes it, its failure opens it anew. M. Nygard, "Release It!" (2007),
    chapter 5. `after` 0 never opens. Threads share it; `clock` tells seconds and never goes back.
    """

    def __init__(self, service: str, after: int, rest_s: float, clock: Callable[[], float]) -> None:
        self._service, self._after, self._rest_s, self._clock = service, after, rest_s, clock
        self._lock = threading.Lock()
        self._failures, self._last = 0, ""
        self._until: float | None = None         # when the rest ends; None: closed
        self._probing = False

    @property
    def state(self) -> State:
        with self._lock:
            if self._until is None:
                return "closed"
            return "half_open" if self._probing or self._clock() >= self._until else "open"

    def enter(self) -> Call:
        """Before a call. Raises `ServiceError` while it is left alone; the message says when it is tried again."""
        with self._lock:
            if self._until is None:
                return Call(self, probe=False)
            left = self._until - self._clock()
            if left <= 0 and not self._probing:
                self._probing = True
                return Call(self, probe=True)
            when = "One call is trying it now" if self._probing else f"It will be tried again in {ceil(left)} s"
            last = f" (the last time: {self._last})" if self._last else ""
            raise ServiceError(f"service {self._service!r} failed {self._failures} times in a row{last} and is left "
                               f"alone. {when}.", kind="unreachable", retryable=True,
                               remedy="See whether it runs and can be reached.")

    def _ended(self, probe: bool, failed: bool | None, reason: str) -> None:
        """A call is over; `failed` None where nobody knows, since its caller gave it up."""
        with self._lock:
            if probe:
                self._probing = False
            if failed is None:
                return
            if not failed:
                if probe or self._until is None:     # a call from before it opened tells of the past
                    self._failures, self._until, self._last = 0, None, ""
                return
            self._failures, self._last = self._failures + 1, reason
            if probe or (self._after and self._until is None and self._failures >= self._after):
                self._until = self._clock() + self._rest_s


class Call:
    """One call that a `Breaker` let pass; also a context manager. The first word about how it went counts."""

    def __init__(self, breaker: Breaker, probe: bool) -> None:
        self._breaker, self.probe, self._told = breaker, probe, False

    def succeeded(self) -> None:
        """The service is up."""
        self._tell(False, "")

    def failed(self, kind: str, reason: str) -> None:
        """With this kind of `ServiceError`; those that do not say that it is down count as a success."""
        self._tell(kind in BROKEN, reason)

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *error: object) -> None:
        self._tell(None, "")

    def _tell(self, failed: bool | None, reason: str) -> None:
        if not self._told:
            self._told = True
            self._breaker._ended(self.probe, failed, reason)
