"""Pictures that were made, as files of the workspace: a bounded number of them, the oldest removed first."""

from __future__ import annotations

import os
import re
import secrets
import threading
from pathlib import Path

_MOST_FILES, _MOST_BYTES = 1_000, 1 << 30
_NAME = re.compile(r"[0-9a-f]{32}\.(png|jpg|webp|gif)")
_SUFFIX = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}
_TYPE = {suffix: kind for kind, suffix in _SUFFIX.items()}


class Pictures:
    """A directory; threads may share it. A name is 128 random bits, so that knowing one is having been told it."""

    def __init__(self, directory: Path, most_files: int = _MOST_FILES, most_bytes: int = _MOST_BYTES) -> None:
        self._directory, self._most_files, self._most_bytes = directory, most_files, most_bytes
        self._lock = threading.Lock()

    def keep(self, data: bytes, media_type: str) -> str:
        """Write a picture whole, then name it; gives the name."""
        name = f"{secrets.token_hex(16)}.{_SUFFIX.get(media_type, 'png')}"
        with self._lock:
            self._directory.mkdir(parents=True, exist_ok=True)
            beside = self._directory / f".{name}"
            beside.write_bytes(data)
            os.replace(beside, self._directory / name)
            self._trim(name)
        return name

    def read(self, name: str) -> tuple[bytes, str] | None:
        """A picture and its media type; None where there is none, or the name is not one of ours."""
        if not _NAME.fullmatch(name):
            return None
        try:
            return (self._directory / name).read_bytes(), _TYPE[name.rpartition(".")[2]]
        except OSError:
            return None

    def _trim(self, newest: str) -> None:
        found = []
        for entry in os.scandir(self._directory):
            known = entry.stat(follow_symlinks=False)
            found.append((known.st_mtime_ns, entry.name, known.st_size))
        found.sort(reverse=True, key=lambda each: (each[1] == newest, each[0]))
        size = 0
        for place, (_, name, each) in enumerate(found):
            size += each
            if place and (place >= self._most_files or size > self._most_bytes):
                (self._directory / name).unlink(missing_ok=True)
