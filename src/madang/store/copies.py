"""Checked copies of `records.db`, and putting one of them in place of the live file.

A copy is made by SQLite's online backup inside one read transaction: it is the state after one commit, whoever writes
meanwhile, and writers do not wait. (https://www.sqlite.org/backup.html)
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from madang.base.errors import Corrupt, Locked, NotFound
from madang.store import pulse, schema

Progress = Callable[[int, int], None]   # bytes done, bytes in all

_PAGES = 4096                           # pages per step of a backup, between two calls of `progress`
_CHUNK = 8 << 20                        # bytes per read
_PATIENCE_S = 10.0                      # how long a restore waits for readers
_COUNTERS = ("sequence", "next_row", "next_tombstone")   # meta that only ever grows, a restore included
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # ERROR: it has no such table


@dataclass(frozen=True, slots=True)
class Contents:
    """What a copy holds: the sequence number of its last commit, live records, bytes, and XXH3-128 of those bytes."""

    sequence: int
    records: int
    size_bytes: int
    checksum: str


def connect(directory: Path) -> sqlite3.Connection:
    """A connection for reading a collection's records; of a copy, one that writes no files beside it."""
    path = directory / schema.FILE_NAME
    if not path.exists():
        raise NotFound(f"{directory} holds no collection: it has no {schema.FILE_NAME}.",
                       remedy="Name the directory of a collection.")
    return _frozen(path) if (directory / schema.COPY_INFO).exists() else schema.open_existing(path)[0]


def take(directory: Path, target: Path, progress: Progress | None = None) -> Contents:
    """Copy a collection's records into a new file, synced, and check that SQLite finds no fault in it.

    Raises `Corrupt` when the records are damaged: a copy of them would be worth nothing.
    """
    with _explained(target), closing(connect(directory)) as source, closing(_scratch(target)) as copy:
        source.execute("BEGIN")
        try:
            source.execute("SELECT COUNT(*) FROM meta").fetchone()   # the transaction begins here, and holds throughout
            (page,) = source.execute("PRAGMA page_size").fetchone()

            def tell(_: int, remaining: int, total: int) -> None:
                if progress is not None:
                    progress((total - remaining) * page, total * page)

            source.backup(copy, pages=_PAGES, progress=tell)
        finally:
            source.execute("COMMIT")
    sync(target)
    return inspect(target)


def inspect(path: Path) -> Contents:
    """Read through a copy: checksum, SQLite's own check, and counts. Raises `Corrupt` where it is not whole."""
    with open(path, "rb") as file:
        checksum = _digest(file)
    with _explained(path), closing(_frozen(path)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != ("ok",):
            raise Corrupt(f"{path} is damaged: {found[0]}.",
                          remedy="Restore the collection from an earlier snapshot or backup.")
        (records,) = connection.execute("SELECT COUNT(*) FROM records").fetchone()
        return Contents(_counters(connection).get("sequence", 0), records, path.stat().st_size, checksum)


def write(source: BinaryIO, what: str, target: Path, expected: Contents, progress: Progress | None = None) -> None:
    """Write a copy's bytes into a new file, synced. Raises `Corrupt`, and leaves no file, when they are not those
    that `expected` describes; `what` names the source in the message."""
    digest, done = xxhash.xxh3_128(), 0
    try:
        with open(target, "xb") as file:
            while part := source.read(_CHUNK):
                digest.update(part)
                file.write(part)
                done += len(part)
                if progress is not None:
                    progress(min(done, expected.size_bytes), expected.size_bytes)
            file.flush()
            os.fsync(file.fileno())
        if (done, digest.hexdigest()) != (expected.size_bytes, expected.checksum):
            how = "does not match its checksum" if done == expected.size_bytes else \
                f"has {done:,} bytes instead of {expected.size_bytes:,}"
            raise Corrupt(f"{what} is damaged: it {how}; nothing was changed.", remedy="Use another one.")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def place(directory: Path, copy: Path, floor: int = 0) -> None:
    """Put a checked copy, a file in `directory`, in place of the live records; the caller holds the writer lock.

    The live file is whole until one rename makes the copy the live file. Counters go on from the higher of both (and
    of `floor`, a sequence number), so that a sequence number means one state only. Derived files are removed first:
    they are those of other records.

    Raises `Locked` while another process is in the middle of reading; nothing was changed.
    """
    live = directory / schema.FILE_NAME
    before = _settle(live)
    _carry_on(copy, {**before, "sequence": max(before.get("sequence", 0), floor)})
    if live.exists():
        shutil.copymode(live, copy)
    sync(copy)
    for path in derived(directory):
        path.unlink(missing_ok=True)
    # A process that still has the old file open keeps the old log, too: were it to share the new one by name, it
    # would read pages of both.
    for suffix in ("-wal", "-shm"):
        live.with_name(live.name + suffix).unlink(missing_ok=True)
    os.replace(copy, live)
    pulse.beat(directory)
    sync(directory)


def derived(directory: Path) -> list[Path]:
    """The files of a collection that are made from its records."""
    return [path for path in directory.iterdir() if path.is_file() and path.name.startswith("index")]


def link_derived(source: Path, target: Path) -> None:
    """Hard links in `target` to the derived files of `source`; copies where links are impossible.

    Those files are never changed in place, only replaced; a set that was replaced meanwhile is taken again. One that
    is always being replaced is left out: it can be built again.
    """
    for _ in range(20):
        before = _identities(source)
        try:
            for path in derived(source):
                _link(path, target / path.name)
            if _identities(source) == before:
                break
        except FileNotFoundError:
            pass
        for path in derived(target):
            path.unlink()
    sync(target)


def sync(path: Path) -> None:
    """Make a file's bytes, or a directory's names, survive power loss."""
    if path.is_dir() and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """The operating system's refusals as ours."""
    try:
        yield
    except OSError as error:
        raise schema.explained(path, error) from error


def _frozen(path: Path) -> sqlite3.Connection:
    """A file that nobody changes: read without locks and without a log."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None,
                           check_same_thread=False)


def _scratch(path: Path) -> sqlite3.Connection:
    """A new file, synced once at its end: until then nobody depends on it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def _settle(live: Path) -> dict[str, int]:
    """Fold the log into the live file, so that the file is whole without it. Returns its counters; none of a file
    that is missing or too damaged to be read, which a restore is there to replace."""
    if not live.exists():
        return {}
    with closing(sqlite3.connect(live, isolation_level=None, timeout=_PATIENCE_S)) as connection:
        try:
            connection.execute("PRAGMA synchronous=FULL")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise Locked(f"{live} is being read by another process; nothing was changed.",
                             remedy="Try again when it has finished.")
            return _counters(connection)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in _DAMAGED:
                return {}
            raise schema.explained(live, error) from error


def _counters(connection: sqlite3.Connection) -> dict[str, int]:
    """The counters that can be read."""
    marks = ",".join("?" * len(_COUNTERS))
    found: list[tuple[str, Any]] = connection.execute(f"SELECT key, value FROM meta WHERE key IN ({marks})",
                                                      _COUNTERS).fetchall()
    return {key: int(value) for key, value in found if isinstance(value, str) and value.isdecimal()}


def _carry_on(copy: Path, before: dict[str, int]) -> None:
    """Raise the counters of a copy above those of the records it replaces. Raises `Corrupt` when this version of
    Madang could not open it."""
    with _explained(copy), closing(schema.open_existing(copy)[0]) as connection:
        connection.execute("BEGIN IMMEDIATE")
        own = _counters(connection)
        for key in own:
            schema.put_meta(connection, key, max(own[key], before.get(key, 0)) + (key == "sequence"))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")   # closing does it, too, but without a word if it fails


def _identities(directory: Path) -> set[tuple[str, int, int, int]]:
    found = set()
    for path in derived(directory):
        status = path.stat()
        found.add((path.name, status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        shutil.copyfile(path, beside)
        sync(beside)
        beside.rename(target)


def _digest(file: BinaryIO) -> str:
    digest = xxhash.xxh3_128()
    while part := file.read(_CHUNK):
        digest.update(part)
    return digest.hexdigest()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise schema.explained(path, error) from error
