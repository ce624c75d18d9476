"""One process writes to a workspace. The lock is the operating system's, so a killed process leaves none behind."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from madang.base.errors import InvalidInput, Locked


class WriterLock:
    """Taken at the first write and kept until `release`; reentrant for one holder.

    `writer.lock` carries the lock, `writer.json` beside it says who holds it: process id, host, command, since.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._info_path = directory / "writer.json"
        self._lock = FileLock(directory / "writer.lock", thread_local=False)
        self._guard = threading.Lock()  # between threads of this process

    @property
    def held(self) -> bool:
        return bool(self._lock.is_locked)

    def acquire(self) -> None:
        """Take the lock, or raise `Locked` saying who has it."""
        with self._guard:
            if not self.held:
                self._take()

    def _take(self) -> None:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise Locked(f"workspace {self._directory} is locked by another process: {self._holder()}.",
                         remedy="Wait for it to finish, or stop it; reading works meanwhile.") from None
        except OSError as error:
            raise InvalidInput(f"workspace {self._directory} cannot be written to: {error.strerror or error}.",
                               remedy="Check its permissions and the disk.") from error
        self._say_who()

    def _say_who(self) -> None:
        info = {"pid": os.getpid(), "host": os.uname().nodename if hasattr(os, "uname") else "",
                "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
                "since": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            self._info_path.write_text(json.dumps(info), encoding="utf-8")
        except OSError:  # it only informs; on a full disk one must be able to delete
            with suppress(OSError):
                self._info_path.unlink(missing_ok=True)  # what the holder before this one said

    def release(self) -> None:
        with self._guard:
            if self.held:
                with suppress(OSError):
                    self._info_path.unlink(missing_ok=True)
                self._lock.release()

    def _holder(self) -> str:
        try:
            info: dict[str, Any] = json.loads(self._info_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return "process unknown"  # it has the lock but not yet written who it is
        return f"{info.get('command') or 'a program'!r}, process {info.get('pid')}, since {info.get('since')}"
