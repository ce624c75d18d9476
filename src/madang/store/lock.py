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

    `writer.lock` carries the lock, `writer.json` beside it says who holds it: process id, host, command, since. Where
    that is a server, only the owner may read it, since it also holds the token with which others write through it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._info_path = directory / "writer.json"
        self._lock = FileLock(directory / "writer.lock", thread_local=False)
        self._guard = threading.Lock()  # between threads of this process
        self._server: tuple[str, str] | None = None

    @property
    def held(self) -> bool:
        return bool(self._lock.is_locked)

    def acquire(self) -> None:
        """Take the lock, or raise `Locked` saying who has it."""
        with self._guard:
            if not self.held:
                self._take()

    def announce(self, server: tuple[str, str] | None) -> None:
        """While the lock is held, tell others an address and a token to write through; None: no more."""
        with self._guard:
            self._server = server
            if self.held:
                self._say_who()

    def _take(self) -> None:
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            info = self._info()
            server = (str(info["address"]), str(info["token"])) if {"address", "token"} <= info.keys() else None
            raise Locked(f"workspace {self._directory} is locked by another process: {_holder(info)}.",
                         remedy="Wait for it to finish, or stop it; reading works meanwhile.", server=server) from None
        except OSError as error:
            raise InvalidInput(f"workspace {self._directory} cannot be written to: {error.strerror or error}.",
                               remedy="Check its permissions and the disk.") from error
        self._say_who()

    def _say_who(self) -> None:
        info = {"pid": os.getpid(), "host": os.uname().nodename if hasattr(os, "uname") else "",
                "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200],
                "since": datetime.now(UTC).isoformat(timespec="seconds")}
        if self._server is not None:
            info |= {"address": self._server[0], "token": self._server[1]}
        beside = self._info_path.with_name(f".{self._info_path.name}.{os.getpid()}")
        try:        # beside and renamed, so that nobody reads half of it, or a token with the rights of an older file
            beside.unlink(missing_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if self._server else 0o644)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(info, file)
            os.replace(beside, self._info_path)
        except OSError:  # it only informs; on a full disk one must be able to delete
            for path in (beside, self._info_path):
                with suppress(OSError):
                    path.unlink(missing_ok=True)  # what the holder before this one said

    def release(self) -> None:
        with self._guard:
            if self.held:
                with suppress(OSError):
                    self._info_path.unlink(missing_ok=True)
                self._lock.release()

    def _info(self) -> dict[str, Any]:
        try:
            info = json.loads(self._info_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return info if isinstance(info, dict) else {}


def _holder(info: dict[str, Any]) -> str:
    if not info:
        return "process unknown"  # it has the lock but not yet written who it is
    return f"{info.get('command') or 'a program'!r}, process {info.get('pid')}, since {info.get('since')}"
