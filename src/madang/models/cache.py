"""Answers of models, kept by what was asked: a cache, or a recording that a test suite replays.

One SQLite file. An entry's key is the SHA-256 of the role, the model's signature and the canonical request, so that it
can never answer another question. Threads and processes may share the file; an entry is written in one transaction, so
that a process that dies leaves it whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from madang.base.errors import Corrupt, InvalidInput, NotFound

Mode: TypeAlias = Literal["on", "record", "replay"]
_FORMAT = 1
_MOST_KEYS = 500                 # of one statement; SQLite takes 999 and more
_OVERHEAD_BYTES = 200            # of an entry besides its value: key, names, index
_KEPT_SHARE = 0.9                # of the bound after making room, so that not every entry makes room again
_SHOWN = 80
_PATIENCE_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries(key BLOB PRIMARY KEY, role TEXT NOT NULL, model TEXT NOT NULL, asked TEXT NOT NULL,
  value BLOB NOT NULL, check_sum BLOB NOT NULL, size_bytes INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON entries(used);
CREATE TABLE IF NOT EXISTS total(size_bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON entries BEGIN
  UPDATE total SET size_bytes = size_bytes + new.size_bytes; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entries BEGIN
  UPDATE total SET size_bytes = size_bytes - old.size_bytes; END;
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked: `role` and `model` (its signature), `content` of plain types, and a few words of it."""

    role: str
    model: str
    content: Any
    asked: str

    @property
    def key(self) -> bytes:
        """32 bytes that two requests share if and only if they are the same."""
        text = json.dumps([_FORMAT, self.role, self.model, canonical(self.content)], ensure_ascii=False, sort_keys=True,
                          separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    def __str__(self) -> str:
        words = " ".join(self.asked.split())
        return f"{self.role} {self.model}: {words[:_SHOWN]!r}{' …' if len(words) > _SHOWN else ''}"


def canonical(value: Any) -> Any:
    """`value` of JSON's types, equal for equal requests: bytes by their digest, 1.0 as 1, dataclasses by their fields.

    Raises `InvalidInput` for what has no such form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: canonical(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InvalidInput(f"a request holds {value!r:.80}, which cannot be kept.", remedy="Use the types of JSON.")


class ResponseCache:
    """The file of kept answers. `close` it; threads may share it.

    `mode` "on": least recently used entries make room. "record": nothing is forgotten; a full recording is an error.
    "replay": opened for reading alone.

    Raises:
        NotFound: replay, and there is no recording.
        Corrupt: the file is no such cache.
        InvalidInput: it cannot be opened.
    """

    def __init__(self, path: Path, mode: Mode = "on", max_bytes: int = 256_000_000,
                 clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.path, self.mode = Path(path), mode
        self._max_bytes, self._clock_ns = max_bytes, clock_ns
        self._lock = threading.Lock()
        if mode == "replay" and not self.path.is_file():
            raise NotFound(f"there is no recording at {self.path}.", remedy=_how_to_record())
        try:
            self._db = _read_only(self.path) if mode == "replay" else _writable(self.path, mode)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise InvalidInput(f"the cache {self.path} cannot be used: {error}.",
                                   remedy="Name another file in [cache] path.") from error
            raise self._damaged(error) from error
        except OSError as error:
            raise InvalidInput(f"the cache {self.path} cannot be used: {error.strerror}.",
                               remedy="Name another file in [cache] path.") from error

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._db.close()

    def get(self, requests: Sequence[Request]) -> list[bytes | None]:
        """What was kept for each; None where nothing was. A value that is damaged counts as not kept, except in replay.

        Raises `Corrupt`.
        """
        keys = [request.key for request in requests]
        found: dict[bytes, bytes] = {}
        with self._lock, self._guarded():
            for start in range(0, len(keys), _MOST_KEYS):
                found |= self._read(keys[start:start + _MOST_KEYS])
            if found and self.mode == "on":
                self._touch(found)
        return [found.get(key) for key in keys]

    def put(self, entries: Iterable[tuple[Request, bytes]]) -> None:
        """Keep these, in one transaction. In replay mode nothing is kept.

        Raises `InvalidInput` where a recording would grow beyond its bound.
        """
        if self.mode == "replay":
            return
        now = self._clock_ns()
        rows = list({(row := _row(request, value, now))[0]: row for request, value in entries}.values())
        if self.mode == "on":
            rows = [row for row in rows if row[6] <= self._max_bytes]
        if not rows:
            return
        with self._lock, self._guarded():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("DELETE FROM entries WHERE key = ?", [row[:1] for row in rows])
                self._db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
                self._bound()
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def size(self) -> tuple[int, int]:
        """(entries, bytes as the bound counts them)."""
        with self._lock, self._guarded():
            (count,) = self._db.execute("SELECT count(*) FROM entries").fetchone()
            return count, self._total()

    def absent(self, request: Request) -> NotFound:
        """The error of a replay that was asked something new; names it and what comes nearest."""
        with self._lock, self._guarded():
            same = self._db.execute("SELECT count(*) FROM entries WHERE role = ? AND model = ?",
                                    (request.role, request.model)).fetchone()[0]
        return NotFound(f"{self.path.name} holds no answer to {request} "
                        f"({same} others of this model; key {request.key.hex()[:12]}).", remedy=_how_to_record())

    def _read(self, keys: list[bytes]) -> dict[bytes, bytes]:
        marks = ",".join("?" * len(keys))
        found = {}
        for key, value, check in self._db.execute(
                f"SELECT key, value, check_sum FROM entries WHERE key IN ({marks})", keys):
            if _check_sum(value) == check:
                found[key] = value
            elif self.mode == "replay":
                raise self._damaged("an entry is not what was written")
        return found

    def _touch(self, keys: Iterable[bytes]) -> None:
        """That these were used now. Where another process is writing for long, the order is not worth waiting for."""
        now = self._clock_ns()
        with suppress(sqlite3.OperationalError):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("UPDATE entries SET used = ? WHERE key = ?", [(now, key) for key in keys])
            finally:
                self._db.execute("COMMIT")

    def _bound(self) -> None:
        total = self._total()
        if total <= self._max_bytes:
            return
        if self.mode == "record":
            raise InvalidInput(f"the recording {self.path} would hold more than {self._max_bytes:,} bytes.",
                               remedy="Raise max_mb in [cache], or record into another file.")
        excess, doomed = total - int(_KEPT_SHARE * self._max_bytes), []
        for key, size in self._db.execute("SELECT key, size_bytes FROM entries ORDER BY used, key"):
            if excess <= 0:
                break
            doomed.append((key,))
            excess -= size
        self._db.executemany("DELETE FROM entries WHERE key = ?", doomed)

    def _total(self) -> int:
        return cast(int, self._db.execute("SELECT size_bytes FROM total").fetchone()[0])

    def _guarded(self) -> _Guarded:
        return _Guarded(self)

    def _damaged(self, reason: object) -> Corrupt:
        return Corrupt(f"the cache {self.path} is damaged: {reason}.",
                       remedy="Remove the file; answers are asked for and kept anew.")


class _Guarded:
    """SQLite's errors as ours."""

    def __init__(self, cache: ResponseCache) -> None:
        self._cache = cache

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.ProgrammingError):
            raise InvalidInput(f"the cache {self._cache.path} is closed.") from error
        if isinstance(error, sqlite3.OperationalError):
            raise InvalidInput(f"the cache {self._cache.path} cannot be used: {error}.",
                               remedy="See whether its disk is full or another process holds it.") from error
        if isinstance(error, sqlite3.DatabaseError):
            raise self._cache._damaged(error) from error


def _row(request: Request, value: bytes, now: int) -> tuple[bytes, str, str, str, bytes, bytes, int, int]:
    asked = str(request).encode("utf-8", "replace").decode("utf-8")
    return (request.key, request.role, request.model, asked, value, _check_sum(value),
            len(value) + len(asked) + _OVERHEAD_BYTES, now)


def _writable(path: Path, mode: Mode) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):     # what people asked is nobody else's business
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_PATIENCE_S)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # A lost cache entry is asked for again; a recording is what somebody paid for.
        db.execute(f"PRAGMA synchronous = {'FULL' if mode == 'record' else 'NORMAL'}")
        _check_format(db)
        db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version = {_FORMAT};COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _read_only(path: Path) -> sqlite3.Connection:
    """Leaves no file beside a recording, which may lie in a folder that cannot be written to."""
    alive = path.with_name(path.name + "-wal").exists()       # somebody is recording
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{'' if alive else '&immutable=1'}", uri=True,
                         isolation_level=None, check_same_thread=False, timeout=_PATIENCE_S)
    try:
        _check_format(db)
        db.execute("SELECT count(*) FROM total").fetchone()
    except sqlite3.OperationalError as error:
        db.close()
        raise sqlite3.DatabaseError(str(error)) from error      # no such table: another kind of file
    except BaseException:
        db.close()
        raise
    return db


def _check_format(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, _FORMAT):
        raise sqlite3.DatabaseError(f"it has format {version}, and this version of Madang knows {_FORMAT}")


def _check_sum(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=8).digest()


def _how_to_record() -> str:
    return 'Record it: run once with mode = "record" in [cache], or MADANG_CACHE_MODE=record.'
