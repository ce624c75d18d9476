"""A thread that indexes what was written while others read and write."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator

_NICE = 10     # it yields to whoever waits for an answer; Linux only, where threads have a niceness of their own


class Indexer:
    """Calls `step` again and again while it returns True, once it was woken. The first `wake` starts the thread.

    Who waits for the index is somebody waiting for an answer: meanwhile a second thread, which nobody goes before, does
    the steps. There is one step at a time.
    """

    def __init__(self, step: Callable[[], bool], name: str) -> None:
        self._step, self._name = step, name
        self._state = threading.Condition()
        self._thread: threading.Thread | None = None
        self._hurrying: threading.Thread | None = None
        self._waiting = 0                       # callers of `wait` and `wait_for`
        self._wanted = self._stopping = False
        self._busy = False
        self.error: Exception | None = None

    def wake(self) -> None:
        """There may be work."""
        with self._state:
            if self._stopping:
                return
            self._wanted, self.error = True, None
            if self._thread is None:
                self._thread = self._started(hurry=False)
            self._state.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until there is nothing left to do; False when the time is over. Raises what stopped it, if something did."""
        with self._state, self._hurry():
            done = self._state.wait_for(lambda: self.error or not (self._wanted or self._busy), timeout_s)
            if self.error is not None:
                raise self.error
            return bool(done)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Until a condition holds, which is looked at after each step; not where an error or `stop` has ended it."""
        with self._state, self._hurry():
            return self._state.wait_for(lambda: self.error is not None or self._stopping or condition(), timeout_s)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Finish the step it is at, and end."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
            threads = [self._thread, self._hurrying]
        for thread in threads:
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    @contextlib.contextmanager
    def _hurry(self) -> Iterator[None]:
        """While somebody waits; the caller holds the state."""
        self._waiting += 1
        if sys.platform == "linux" and self._hurrying is None and (self._wanted or self._busy) and not self._stopping:
            self._hurrying = self._started(hurry=True)
        try:
            yield
        finally:
            self._waiting -= 1
            self._state.notify_all()

    def _started(self, hurry: bool) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(hurry,), name=f"madang-index-{self._name}", daemon=True)
        thread.start()
        return thread

    def _run(self, hurry: bool) -> None:
        if sys.platform == "linux" and not hurry:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            with self._state:
                self._state.wait_for(lambda: self._stopping or (hurry and not self._waiting) or (
                    self._wanted and not self._busy and (hurry or self._hurrying is None)))
                if self._stopping or (hurry and not self._waiting):
                    if hurry:
                        self._hurrying = None
                        self._state.notify_all()
                    return
                self._wanted, self._busy = False, True
            error, more = None, False
            try:
                more = self._step()
            except Exception as caught:  # told to whoever waits; what was not indexed is searched exactly
                error = caught
            finally:
                with self._state:
                    self.error, self._busy = error, False
                    self._wanted = self._wanted or more
                    self._state.notify_all()
