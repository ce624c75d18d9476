"""How much a caller may ask for: rates, sizes, and how much work waits at once."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from madang.base.errors import InvalidInput, MadangError
from madang.base.settings import Serve

_MOST_CALLERS = 10_000             # whose rate is remembered; the longest unseen are forgotten first


class Later(MadangError, RuntimeError):
    """Not now: `retry_after_s` says when."""

    def __init__(self, message: str, retry_after_s: float, *, remedy: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = max(1, math.ceil(retry_after_s))      # whole seconds, as the header has it


class TooMany(Later):
    """One caller asks more often than the server allows."""

    code = "too_many_requests"


class Busy(Later):
    """The server has as much work as it takes at once."""

    code = "busy"


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of [serve] as refusals that name the field, the value and the bound."""

    settings: Serve

    def batch(self, count: int, what: str) -> None:
        """Of records, ids or files of one request."""
        if count > self.settings.max_batch:
            raise InvalidInput(f"{what} holds {count:,}; at most {self.settings.max_batch:,} are taken at once.",
                               remedy="Send them in several requests, or raise max_batch in [serve] of madang.toml.")

    def top_k(self, value: int) -> None:
        """Of a query or search."""
        if value > self.settings.max_top_k:
            raise InvalidInput(f"top_k is {value:,}; at most {self.settings.max_top_k:,} is allowed.",
                               remedy="Ask for fewer, or raise max_top_k in [serve] of madang.toml.")

    def dim(self, value: int) -> None:
        """Of a new collection."""
        if value > self.settings.max_dim:
            raise InvalidInput(f"dim is {value:,}; at most {self.settings.max_dim:,} is allowed.",
                               remedy="Use a smaller embedding, or raise max_dim in [serve] of madang.toml.")


class Rates:
    """A token bucket for each caller: `burst` requests at once, then `rate_per_s`. Rate 0: no bound.

    J. S. Turner, "New directions in communications", IEEE Communications Magazine 24 (1986).
    """

    def __init__(self, rate_per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate_per_s, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()     # tokens left, and when
        self._guard = threading.Lock()

    def take(self, caller: str) -> None:
        """One request of a caller. Raises `TooMany`."""
        if not self._rate:
            return
        with self._guard:
            now = self._clock()
            left, since = self._buckets.pop(caller, (float(self._burst), now))
            left = min(float(self._burst), left + (now - since) * self._rate)
            enough = left >= 1
            self._buckets[caller] = (left - 1 if enough else left, now)
            if len(self._buckets) > _MOST_CALLERS:
                self._buckets.popitem(last=False)
        if not enough:
            raise TooMany(f"more than {self._rate:g} requests a second.", (1 - left) / self._rate,
                          remedy="Ask less often, or raise rate_per_s in [serve] of madang.toml.")
