"""Ready: the collections that were used last are open, so that the first question does not wait for a file."""

from __future__ import annotations

import logging
import threading

from madang.base.errors import MadangError
from madang.workspace import Workspace

_log = logging.getLogger("madang.serve")


class Ready:
    """Opens collections in a thread, the newest first. One that cannot be opened is reported, and holds nobody up:
    whoever asks for it is told what is wrong."""

    def __init__(self, workspace: Workspace, most: int) -> None:
        self._workspace, self._most = workspace, most
        self._stopping, self._done = threading.Event(), threading.Event()
        self.opened = 0
        self._thread = threading.Thread(target=self._open, name="madang-ready", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def yes(self) -> bool:
        """Whether it is."""
        return self._done.is_set()

    def _open(self) -> None:
        try:
            for name in self._workspace.recent(self._most):
                if self._stopping.is_set():
                    return
                try:
                    self._workspace.collection(name).counted()      # brings what queries run on up to date
                    self.opened += 1
                except MadangError as error:
                    _log.warning("collection %r could not be opened: %s", name, error)
        finally:
            self._done.set()

    def stop(self) -> None:
        """Open no more."""
        self._stopping.set()

    def close(self) -> None:
        """Wait for the one that is being opened."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()
