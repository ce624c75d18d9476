"""A collection in one file outside the workspace: an online backup, and a restore that checks everything first.

The file is an uncompressed ZIP of `backup.json` and `records.db`, so any program can take it apart. Derived files are
left out: they are rebuilt.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xxhash

from madang.base.errors import Conflict, Corrupt, NotFound
from madang.index import container
from madang.store import copies, schema, snapshots
from madang.store.copies import Contents, Progress

_INFO = "backup.json"
_FORMAT = 1
_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """A backup: the collection's name and state at that moment; `checksum` is XXH3-128 of `records.db`."""

    collection: str
    sequence: int
    created_at: str
    records: int
    size_bytes: int
    checksum: str

    @property
    def contents(self) -> Contents:
        return Contents(self.sequence, self.records, self.size_bytes, self.checksum)


def create(directory: Path, path: Path, overwrite: bool = False, progress: Progress | None = None) -> BackupInfo:
    """Write the collection in `directory` to one file. Writers go on meanwhile; the file holds one state.

    While it runs it needs twice the space. `progress`: bytes done, bytes in all, over both passes.

    Raises:
        Conflict: the file is there and `overwrite` is false. Corrupt: the collection's records are damaged.
    """
    if path.exists() and not overwrite:
        raise Conflict(f"{path} exists already.", remedy="Choose another name, or overwrite it.")
    copy = path.with_name(f".{path.name}.{secrets.token_hex(4)}.db.tmp")
    with copies.writing(path):
        try:
            contents = copies.take(directory, copy, _part(progress, 0))
            info = BackupInfo(directory.name, contents.sequence, datetime.now(UTC).isoformat(timespec="seconds"),
                              contents.records, contents.size_bytes, contents.checksum)
            with container.replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as pack:
                pack.writestr(_INFO, _told(info))
                _pack(pack, copy, _part(progress, 1))
        finally:
            copy.unlink(missing_ok=True)
    return info


def info(path: Path) -> BackupInfo:
    """What a backup says of itself. Raises `NotFound`, and `Corrupt` for a file that is damaged or no backup."""
    with _reading(path) as pack:
        return _info(path, pack)


def restore(path: Path, directory: Path, replace: bool = False, progress: Progress | None = None) -> BackupInfo:
    """Make the collection in `directory` from a backup, under whatever name that has.

    The caller holds the writer lock and, where the collection is there already, has closed it. Everything is checked
    before anything changes: both checksums, SQLite's own check of the file, the number of records.

    Raises:
        Conflict: the collection is there and `replace` is false. Corrupt: the backup is damaged.
        Locked: another process is reading the collection to be replaced. In each case nothing was changed.
    """
    there = directory.exists()
    if there and not replace:
        raise Conflict(f"collection {directory.name!r} exists already.",
                       remedy="Restore under another name, or replace it.")
    with copies.writing(directory), _reading(path) as pack:
        known = _info(path, pack)
        beside = directory.parent / f".new-{secrets.token_hex(16)}"
        try:
            beside.mkdir()
            _unpack(path, pack, known, beside / schema.FILE_NAME, progress)
            if there:
                with snapshots.changing(directory):
                    new = directory / f".restore-{secrets.token_hex(8)}.db"
                    (beside / schema.FILE_NAME).rename(new)
                    try:
                        copies.place(directory, new)
                    finally:
                        new.unlink(missing_ok=True)
            else:
                copies.sync(beside)
                beside.rename(directory)
                copies.sync(directory.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return known


def _pack(pack: zipfile.ZipFile, copy: Path, progress: Progress | None) -> None:
    entry = zipfile.ZipInfo(schema.FILE_NAME)   # the time of its making stands in the information
    entry.external_attr = 0o644 << 16
    size, done = copy.stat().st_size, 0
    with open(copy, "rb") as source, pack.open(entry, "w", force_zip64=True) as target:
        while part := source.read(_CHUNK):
            target.write(part)
            done += len(part)
            if progress is not None:
                progress(done, size)


def _unpack(path: Path, pack: zipfile.ZipFile, known: BackupInfo, target: Path, progress: Progress | None) -> None:
    with pack.open(schema.FILE_NAME) as source:
        copies.write(source, f"backup {path}", target, known.contents, progress)  # type: ignore[arg-type]
    if copies.inspect(target) != known.contents:
        raise _damaged(path, "its records are not those it says")


@contextmanager
def _reading(path: Path) -> Iterator[zipfile.ZipFile]:
    """An opened backup; whatever the archive's reader finds wrong becomes `Corrupt`."""
    if not path.is_file():
        raise NotFound(f"backup {path} does not exist.", remedy="Name a file that a backup was written to.")
    if not os.access(path, os.R_OK):
        raise NotFound(f"backup {path} may not be read.", remedy="Check its permissions.")
    try:
        with zipfile.ZipFile(path) as pack:
            yield pack
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError, UnicodeDecodeError) as error:
        if isinstance(error, NotFound):
            raise
        raise _damaged(path, str(error) or "it ends too early") from error
    except RuntimeError as error:
        if isinstance(error, Corrupt) or type(error) is not RuntimeError:
            raise
        raise _damaged(path, str(error)) from error  # the reader believes that it is encrypted


def _info(path: Path, pack: zipfile.ZipFile) -> BackupInfo:
    try:
        stored = json.loads(pack.read(_INFO))
        if stored["checksum"] != _checksum(stored["backup"]):
            raise ValueError
        if stored["format"] != _FORMAT:
            raise Corrupt(f"backup {path} has format {stored['format']!r}; this version reads format {_FORMAT}.",
                          remedy="Restore it with the version of Madang that wrote it.")
        return BackupInfo(**stored["backup"])
    except (ValueError, KeyError, TypeError):
        raise _damaged(path, f"its {_INFO} is missing or changed") from None


def _told(info: BackupInfo) -> str:
    content = asdict(info)
    return json.dumps({"format": _FORMAT, "backup": content, "checksum": _checksum(content)}, ensure_ascii=False,
                      indent=2)


def _checksum(content: Any) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8"))


def _damaged(path: Path, how: str) -> Corrupt:
    return Corrupt(f"backup {path} is damaged, or is no backup: {how.rstrip('.')}; nothing was changed.",
                   remedy="Use another one.")


def _part(progress: Progress | None, part: int) -> Progress | None:
    """The progress of one of two passes over the same bytes, as one."""
    if progress is None:
        return None
    return lambda done, total: progress(part * total + done, 2 * total)
