"""A number that writers raise after every commit, in memory that all processes share.

SQLite's own number (`PRAGMA data_version`) says the same, but asking takes system calls, each of which lets go of the
interpreter: with eight threads asking, that costs more than the search. Reading this one costs a microsecond at most.
It is not the truth: whoever finds it unchanged may rely on having seen everything that was acknowledged, provided that
it looks at the truth itself now and then, for a writer that was killed between its commit and this number.
"""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import suppress
from pathlib import Path

FILE_NAME = "changes"
_SIZE = 8


class Pulse:
    """The number of one collection's directory; None to all readers where it cannot be shared."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._guard = threading.Lock()
        self._file: int | None = None
        self._shared: mmap.mmap | None = None
        self._open()

    def _open(self) -> None:
        # Never by replacing the file: others have it in their memory.
        if not hasattr(os, "pwrite"):
            return
        with suppress(OSError, ValueError):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                if os.fstat(file).st_size < _SIZE:     # written, not stretched: a hole may find the disk full later
                    os.pwrite(file, b"\0" * _SIZE, 0)
                self._shared = mmap.mmap(file, _SIZE, access=mmap.ACCESS_READ)
                self._file = file
            except BaseException:
                os.close(file)
                raise
        if self._shared is None:                       # it may be there, and this process may only read
            with suppress(OSError, ValueError), self._path.open("rb") as readable:
                self._shared = mmap.mmap(readable.fileno(), _SIZE, access=mmap.ACCESS_READ)

    def read(self) -> bytes | None:
        """What to compare with later; None where nothing can be relied on."""
        shared = self._shared
        try:
            return None if shared is None else shared[:_SIZE]
        except ValueError:                             # closed meanwhile
            return None

    def beat(self) -> None:
        """Something was committed. To be called before it is acknowledged."""
        with self._guard, suppress(OSError, ValueError):
            if self._file is not None and self._shared is not None:
                number = int.from_bytes(self._shared[:_SIZE], "little")
                os.pwrite(self._file, ((number + 1) % 2**64).to_bytes(_SIZE, "little"), 0)

    def close(self) -> None:
        with self._guard:
            shared, file, self._shared, self._file = self._shared, self._file, None, None
            if shared is not None:
                shared.close()
            if file is not None:
                os.close(file)


def beat(directory: Path) -> None:
    """Tell whoever has a collection open that its files were replaced or moved away."""
    pulse = Pulse(directory)
    pulse.beat()
    pulse.close()
