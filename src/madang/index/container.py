"""Files of named arrays: checksummed, versioned, mapped into memory, replaced as a whole or not at all.

A file is 16 bytes of magic and lengths, a JSON header (kind, version, settings, and for each array its type, place and
checksum), the header's checksum, and the arrays, each on a page of its own. All numbers are little-endian.
"""

from __future__ import annotations

import json
import mmap
import os
import secrets
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

from madang.base.errors import Corrupt, NotFound

Arrays = dict[str, NDArray[Any]]

_MAGIC = b"MADANGIX"
_START = struct.Struct("<8sIIQ")     # magic, version of the container, length of the header, its checksum
_CONTAINER = 1
_PAGE = 4096
_CHUNK = 8 << 20                     # bytes per checksum: large arrays are checked by several threads


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file written beside `path` and renamed to it at the end; on an error `path` stays as it was."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":  # the new name, too, survives a power cut
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write(path: str | Path, kind: str, version: int, settings: Mapping[str, Any],
          arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write one-dimensional arrays and JSON settings; either all of it replaces what was there, or nothing does."""
    table: list[dict[str, Any]] = []
    at = 0
    for name, array in arrays.items():
        data = _bytes_of(array)
        table.append({"name": name, "dtype": array.dtype.newbyteorder("<").str, "size": len(array), "at": at,
                      "checksums": _checksums(data)})
        at += -(-len(data) // _PAGE) * _PAGE
    header = json.dumps({"kind": kind, "version": version, "settings": dict(settings), "arrays": table},
                        sort_keys=True, separators=(",", ":")).encode()
    with replacing(Path(path)) as file:
        file.write(_START.pack(_MAGIC, _CONTAINER, len(header), xxhash.xxh3_64_intdigest(header)) + header)
        for array in arrays.values():
            file.write(bytes(-file.tell() % _PAGE))
            file.write(_bytes_of(array).data)
        file.truncate(_first(len(header)) + at)


def read(path: str | Path, kind: str, version: int, mapped: bool = True) -> tuple[dict[str, Any], Arrays]:
    """Settings and arrays of a file; a mapped array may be changed in memory, the file stays as it is.

    Raises NotFound, and Corrupt for a file that is truncated, changed, of another kind or version.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = _content(file, size, mapped)
    except FileNotFoundError:
        raise NotFound(f"index file {path} does not exist.", remedy="Save the index first.") from None
    except OSError as error:
        raise NotFound(f"index file {path} cannot be read: {error.strerror or error}.",
                       remedy="Name a file that `save` wrote.") from error
    header, first = _header(path, content, kind, version)
    arrays = {}
    expected = first
    before = _START.size + int(_START.unpack(content[:_START.size].tobytes())[2])   # where the header ends
    for entry in _table(path, header):
        start = first + entry["at"]
        end = start + entry["size"] * np.dtype(entry["dtype"]).itemsize
        expected = max(expected, first + -(-(end - first) // _PAGE) * _PAGE)
        if end > size:
            raise _corrupt(path, f"is truncated: {entry['name']} should end at byte {end}, the file has {size}")
        part = content[start:end]
        if _checksums(part) != entry["checksums"]:
            raise _corrupt(path, f"is damaged: the checksum of its {entry['name']} does not match")
        if start < before or content[before:start].any():
            raise _corrupt(path, f"is damaged: there is something before its {entry['name']}")
        arrays[entry["name"]] = part.view(np.dtype(entry["dtype"]))
        before = end
    if content[before:expected].any():
        raise _corrupt(path, "is damaged: there is something behind its end")
    if expected != size:
        how = "truncated" if size < expected else "too long"
        raise _corrupt(path, f"is {how}: it should have {expected} bytes and has {size}")
    return header["settings"], arrays


def kind_of(path: str | Path) -> str | None:
    """The kind of index a file holds, or None where it is no such file."""
    return _kind_and_version(Path(path))[0]


def check(path: str | Path) -> None:
    """Raises as `read` does, for a file of whatever kind and version."""
    kind, version = _kind_and_version(Path(path))
    read(path, kind or "", version)


def _kind_and_version(path: Path) -> tuple[str | None, int]:
    try:
        with open(path, "rb") as file:
            start = file.read(_START.size)
            if len(start) < _START.size or not start.startswith(_MAGIC):
                return None, 0
            header = json.loads(file.read(_START.unpack(start)[2]))
    except (OSError, ValueError):
        return None, 0
    if not isinstance(header, dict):
        return None, 0
    kind, version = header.get("kind"), header.get("version")
    return kind if isinstance(kind, str) else None, version if isinstance(version, int) else 0


def _header(path: Path, content: NDArray[np.uint8], kind: str, version: int) -> tuple[dict[str, Any], int]:
    if len(content) < _START.size:
        raise _corrupt(path, f"is truncated: it has {len(content)} bytes, fewer than a header")
    magic, container, length, checksum = _START.unpack(content[:_START.size].tobytes())
    if magic != _MAGIC:
        raise _corrupt(path, f"is not a {kind} index: it begins with other bytes")
    if container != _CONTAINER:
        raise _corrupt(path, f"has format {container}; this Madang reads format {_CONTAINER}")
    text = content[_START.size:_START.size + length].tobytes()
    if len(text) < length:
        raise _corrupt(path, "is truncated within its header")
    if xxhash.xxh3_64_intdigest(text) != checksum:
        raise _corrupt(path, "has a damaged header: its checksum does not match")
    try:
        header = json.loads(text)
    except ValueError:
        raise _corrupt(path, "has a header that is not JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("settings"), dict):
        raise _corrupt(path, "has a header without settings")
    if header.get("kind") != kind:
        raise _corrupt(path, f"holds a {header.get('kind')} index, not a {kind} one")
    if header.get("version") != version:
        raise _corrupt(path, f"has version {header.get('version')}; this Madang reads version {version}")
    return header, _first(length)


def _table(path: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The arrays that a header describes, if it describes them sensibly."""
    table = header.get("arrays")
    if not isinstance(table, list):
        raise _corrupt(path, "has a header without a table of arrays")
    for entry in table:
        good = isinstance(entry, dict) and isinstance(entry.get("name"), str)
        good = good and isinstance(entry.get("checksums"), list)
        for field in ("size", "at"):
            good = good and type(entry.get(field)) is int and 0 <= entry[field] < 2**62
        try:
            good = good and np.dtype(entry["dtype"]).kind in "biuf" and np.dtype(entry["dtype"]).itemsize <= 8
        except TypeError:
            good = False
        if not good:
            raise _corrupt(path, "has a table of arrays that makes no sense")
    return table


def _first(header_length: int) -> int:
    """Where the arrays begin."""
    return -(-(_START.size + header_length) // _PAGE) * _PAGE


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


def _checksums(data: NDArray[np.uint8]) -> list[int]:
    parts = [data[start:start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    if len(parts) < 2:
        return [xxhash.xxh3_64_intdigest(part.data) for part in parts]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # xxhash releases the GIL
        return list(pool.map(lambda part: xxhash.xxh3_64_intdigest(part.data), parts))


def _content(file: BinaryIO, size: int, mapped: bool) -> NDArray[np.uint8]:
    if mapped and size:
        # Private: what the index changes later stays in memory.
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), dtype=np.uint8)
    room = np.empty(size + 64, dtype=np.uint8)
    start = -room.ctypes.data % 64
    content = room[start:start + size]
    file.readinto(content.data)  # type: ignore[attr-defined]
    return content


def _corrupt(path: Path, what: str) -> Corrupt:
    return Corrupt(f"index file {path} {what}.", remedy="Restore it from a copy, or build the index again.")
