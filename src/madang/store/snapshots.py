"""Versions of a collection: named snapshots beside its records, read as of then, restored.

A snapshot is a directory `snapshots/NAME` in the collection's own: a copy of `records.db` as of one commit, hard links
to the derived files, and `info.json` with the checksum. It is made beside and renamed, so that it is there as a whole
or not at all, and never changed again.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xxhash
from filelock import FileLock, Timeout

from madang.base.errors import Conflict, Corrupt, InvalidInput, Locked, NotFound
from madang.index import container
from madang.store import copies, schema, validate
from madang.store.copies import Contents, Progress

FOLDER = "snapshots"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot: `sequence` is the collection's at that moment, `size_bytes` that of its records alone, for derived
    files take no space of their own; `checksum` is XXH3-128 of the records' file; `created_at` is ISO 8601, UTC."""

    name: str
    sequence: int
    created_at: str
    records: int
    size_bytes: int
    checksum: str

    @property
    def contents(self) -> Contents:
        return Contents(self.sequence, self.records, self.size_bytes, self.checksum)


def create(directory: Path, name: str, progress: Progress | None = None) -> SnapshotInfo:
    """Keep the collection in `directory` as it is now. Writers go on meanwhile; no writer lock is needed.

    Args:
        name: as a collection's name. progress: called with bytes done and bytes in all.

    Raises:
        Conflict: there is a snapshot of that name. Corrupt: the collection's records are damaged.
        Locked: another process is changing the snapshots.
    """
    name = validate.collection_name(name)
    with copies.writing(directory / FOLDER / name), changing(directory) as folder:
        if (folder / name).exists():
            raise Conflict(f"snapshot {name!r} of collection {directory.name!r} exists already.",
                           remedy="Choose another name, or delete it first.")
        new = folder / f".new-{secrets.token_hex(8)}"
        try:
            new.mkdir()
            # Before the records: derived files that are older than the records catch up, newer ones would be wrong.
            copies.link_derived(directory, new)
            contents = copies.take(directory, new / schema.FILE_NAME, progress)
            (new / schema.FILE_NAME).chmod(0o444)
            # After: it holds nothing that was committed later than this says.
            info = SnapshotInfo(name, contents.sequence, datetime.now(UTC).isoformat(timespec="microseconds"),
                                contents.records, contents.size_bytes, contents.checksum)
            _write_info(new, info)
            new.rename(folder / name)
            copies.sync(folder)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    return info


def names(directory: Path) -> list[str]:
    """The snapshots of a collection, sorted by name."""
    folder = directory / FOLDER
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def listing(directory: Path) -> list[SnapshotInfo]:
    """The snapshots of a collection, oldest first. Raises `Corrupt` naming one whose `info.json` is damaged."""
    return sorted((info(directory, name) for name in names(directory)), key=lambda one: (one.created_at, one.name))


def info(directory: Path, name: str) -> SnapshotInfo:
    """What is known of one snapshot. Raises `NotFound` with the names there are, `Corrupt` where it is damaged."""
    name = validate.collection_name(name)
    path = directory / FOLDER / name / schema.COPY_INFO
    if not path.parent.is_dir():
        there = ", ".join(names(directory)) or "none yet"
        raise NotFound(f"no snapshot of collection {directory.name!r} is called {name!r}.",
                       remedy=f"There are: {there}.")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["checksum"] != _checksum(stored["snapshot"]) or stored["format"] != _FORMAT:
            raise ValueError
        return SnapshotInfo(**{**stored["snapshot"], "name": name})
    except (OSError, ValueError, KeyError, TypeError):
        raise Corrupt(f"snapshot {name!r} of collection {directory.name!r} is damaged: its {schema.COPY_INFO} is "
                      "missing or changed.", remedy="Delete the snapshot, and use another one.") from None


def verify(directory: Path, name: str) -> SnapshotInfo:
    """Read through a snapshot. Raises `Corrupt` when it is not what it was when it was made."""
    known = info(directory, name)
    try:
        whole = copies.inspect(path_of(directory, name) / schema.FILE_NAME) == known.contents
    except (OSError, Corrupt):
        whole = False
    if not whole:
        raise Corrupt(f"{_what(directory, name)} is damaged: it does not match its checksum.",
                      remedy="Delete the snapshot, and use another one.")
    return known


def path_of(directory: Path, name: str) -> Path:
    """The directory of a snapshot, to be opened as a collection for reading only."""
    return directory / FOLDER / validate.collection_name(name)


def as_of(directory: Path, when: str | int | datetime) -> SnapshotInfo:
    """The snapshot called `when`, or the newest that is not later than a sequence number or a time.

    Args:
        when: a name; else a sequence number, or a time (a `datetime` or ISO 8601 text, UTC unless it says otherwise).
    """
    if isinstance(when, str) and when in names(directory):
        return info(directory, when)
    moment = _moment(when)
    if moment is None:
        return info(directory, str(when))  # says which names there are
    if isinstance(moment, int):
        early = [one for one in listing(directory) if one.sequence <= moment]
    else:
        early = [one for one in listing(directory) if datetime.fromisoformat(one.created_at) <= moment]
    if not early:
        oldest = next((f"The oldest is {one.name!r}, made {one.created_at} at sequence number {one.sequence}."
                       for one in listing(directory)), "There are none yet.")
        raise NotFound(f"collection {directory.name!r} has no snapshot from {when} or before.", remedy=oldest)
    return max(early, key=lambda one: (one.sequence, one.created_at))


def restore(directory: Path, name: str, progress: Progress | None = None) -> SnapshotInfo:
    """Replace what the collection holds by a snapshot. The caller holds the writer lock and has closed the collection.

    The snapshot stays. Sequence numbers go on from the higher one, so that each still means one state. Other processes
    notice that the file is another one (`Collection.dropped`).

    Raises:
        Corrupt: the snapshot does not match its checksum. Locked: another process is in the middle of reading.
        In each case nothing was changed.
    """
    known = info(directory, name)
    with copies.writing(directory / schema.FILE_NAME), changing(directory):
        kept, new = path_of(directory, name), directory / f".restore-{secrets.token_hex(8)}.db"
        floor = max((one.sequence for one in _readable(directory)), default=0)
        try:
            with _opened(directory, name) as file:
                copies.write(file, _what(directory, name), new, known.contents, progress)
            copies.place(directory, new, floor)
        finally:
            _clear(directory, ".restore-*")
        # A crash before this costs a rebuild: what is derived is missing, not wrong.
        copies.link_derived(kept, directory)
    return known


def delete(directory: Path, name: str) -> None:
    """Remove a snapshot, a damaged one too. Raises `NotFound` with the names there are."""
    name = validate.collection_name(name)
    with copies.writing(directory / FOLDER / name):
        if name not in names(directory):
            info(directory, name)
        with changing(directory) as folder:
            (folder / name).rename(folder / f".dropped-{secrets.token_hex(8)}")
            copies.sync(folder)
            _clear(folder, ".dropped-*")


@contextmanager
def changing(directory: Path) -> Iterator[Path]:
    """The folder of snapshots, locked against other changes and cleared of what a killed process left."""
    if not directory.is_dir():
        raise NotFound(f"{directory} holds no collection: it does not exist.", remedy="Restore it from a backup.")
    folder = directory / FOLDER
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        copies.sync(directory)
    lock = FileLock(folder / ".lock", timeout=10.0)
    try:
        lock.acquire()
    except Timeout:
        raise Locked(f"the snapshots of collection {directory.name!r} are being changed by another process.",
                     remedy="Try again when it has finished.") from None
    try:
        _clear(folder, ".new-*", ".dropped-*")
        _clear(directory, ".restore-*")
        yield folder
    finally:
        lock.release()


def _clear(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for leftover in folder.glob(pattern):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


@contextmanager
def _opened(directory: Path, name: str) -> Iterator[Any]:
    try:
        file = open(path_of(directory, name) / schema.FILE_NAME, "rb")  # noqa: SIM115
    except OSError as error:
        raise Corrupt(f"{_what(directory, name)} cannot be read: {error.strerror or error}; nothing was changed.",
                      remedy="Use another one.") from error
    with file:
        yield file


def _readable(directory: Path) -> Iterator[SnapshotInfo]:
    """The snapshots whose information is whole."""
    for name in names(directory):
        try:
            yield info(directory, name)
        except Corrupt:
            continue


def _moment(when: Any) -> int | datetime | None:
    """A sequence number, a time, or neither."""
    if isinstance(when, str) and when.isascii() and when.isdigit():
        return int(when)
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            return None
    if isinstance(when, datetime):
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    if isinstance(when, bool) or not isinstance(when, int):
        raise InvalidInput(f"as_of must be the name of a snapshot, a sequence number or a time, not {when!r:.80}.")
    return when


def _what(directory: Path, name: str) -> str:
    return f"snapshot {name!r} of collection {directory.name!r}"


def _write_info(folder: Path, info: SnapshotInfo) -> None:
    content = asdict(info)
    text = json.dumps({"format": _FORMAT, "snapshot": content, "checksum": _checksum(content)}, ensure_ascii=False,
                      indent=2)
    with container.replacing(folder / schema.COPY_INFO) as file:
        file.write(text.encode("utf-8"))


def _checksum(content: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8"))
