"""What a power cut can leave of a directory, from the log that `unsynced.c` wrote.

The strict reading of POSIX, not the kindness of one file system: what was written to a file is safe after a sync of that
file, a name is safe after a sync of its directory. Of everything else any part may have arrived, in any order: a write
by sectors of 512 bytes, a rename as a whole.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
_HEAD = struct.Struct("=cQQI")


class Entry(NamedTuple):
    """One line of the log: C create, D make directory, W write, T truncate, S sync, R rename, L link, U unlink, M said."""

    kind: str
    inode: int
    offset: int
    data: bytes


def read_log(path: Path) -> Iterator[Entry]:
    """The entries of a log; a last one that was cut short did not happen."""
    with open(path, "rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            kind, inode, offset, length = _HEAD.unpack(head)
            if len(data := file.read(length)) < length:
                return
            yield Entry(kind.decode(), inode, offset, data)


@dataclass
class File:
    """Synced bytes, and what came after: (offset, bytes) for a write, a size for a truncation."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)

    def sync(self) -> None:
        for change in self.pending:
            _change(self.synced, change)
        self.pending.clear()

    def survivor(self, share: float, generator: random.Random) -> bytes:
        content = bytearray(self.synced)
        for change in self.pending:
            for part in [change] if isinstance(change, int) else _sectors(*change):
                if generator.random() < share:
                    _change(content, part)
        return bytes(content)


@dataclass
class Folder:
    """Names as programs see them, names that are synced, and the changes since: name -> file, or None for no file."""

    seen: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def change(self, change: dict[str, File | Folder | None]) -> None:
        _rename(self.seen, change)
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            _rename(self.synced, change)
        self.pending.clear()

    def survivor(self, share: float, generator: random.Random) -> dict[str, File | Folder]:
        names = dict(self.synced)
        for change in self.pending:
            if generator.random() < share:
                _rename(names, change)
        return names


class Disk:
    """Follows a log, and writes down what a power cut at this moment could leave."""

    def __init__(self, root: Path, folder_syncs: bool = True) -> None:
        """`root` as it is before the log begins; all of it is safe. Without `folder_syncs`, those are overlooked."""
        self._root, self._folder_syncs = root, folder_syncs
        self._by_inode: dict[int, File | Folder] = {}
        self._top = self._scan(root)
        self.said = b""

    def _scan(self, path: Path) -> File | Folder:
        if path.is_dir():
            names = {inner.name: self._scan(inner) for inner in path.iterdir()}
            node: File | Folder = Folder(dict(names), dict(names))
        else:
            node = File(bytearray(path.read_bytes()))
        self._by_inode[path.stat().st_ino] = node
        return node

    def follow(self, entry: Entry) -> None:
        """The next entry of the log."""
        if entry.kind == "M":
            self.said += entry.data
        elif entry.kind == "S":
            node = self._by_inode[entry.inode]
            if self._folder_syncs or isinstance(node, File):
                node.sync()
        elif entry.kind in "WT":
            file = self._by_inode[entry.inode]
            assert isinstance(file, File)
            file.pending.append((entry.offset, entry.data) if entry.kind == "W" else entry.offset)
        else:
            self._follow_name(entry.kind, entry.inode, entry.data.decode().split("\0"))

    def _follow_name(self, kind: str, inode: int, paths: list[str]) -> None:
        folder, name = self._parent(paths[0])
        if kind == "U":
            folder.change({name: None})
        elif kind in "CD":
            self._by_inode[inode] = File() if kind == "C" else Folder()
            folder.change({name: self._by_inode[inode]})
        else:
            target, new = self._parent(paths[1])
            node, gone = folder.seen[name], {name: None} if kind == "R" else {}
            if target is folder:
                folder.change({**gone, new: node})
            else:
                folder.change({**gone})
                target.change({new: node})

    def _parent(self, path: str) -> tuple[Folder, str]:
        *above, name = Path(path).relative_to(self._root).parts
        node = self._top
        for part in above:
            assert isinstance(node, Folder)
            node = node.seen[part]
        assert isinstance(node, Folder)
        return node, name

    def cut(self, target: Path, generator: random.Random) -> None:
        """Write into `target` what is left: all that is synced; of the rest none, some or all."""
        self._write(self._top, target, generator.choice([0.0, 0.5, 1.0]), generator.choice([0.0, 0.5, 1.0]), generator)

    def everything(self, target: Path) -> None:
        """Write into `target` what programs saw: the log is complete if this equals the directory."""
        self._write(self._top, target, 1.0, 1.0, random.Random(0))

    def _write(self, node: File | Folder, target: Path, names: float, data: float, generator: random.Random) -> None:
        if isinstance(node, File):
            target.write_bytes(node.survivor(data, generator))
        else:
            target.mkdir()
            for name, inner in node.survivor(names, generator).items():
                self._write(inner, target / name, names, data, generator)


def _change(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        del content[change:]
        content.extend(bytes(change - len(content)))
    else:
        offset, data = change
        content.extend(bytes(max(0, offset - len(content))))
        content[offset:offset + len(data)] = data


def _rename(names: dict[str, File | Folder], change: dict[str, File | Folder | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        end = start + SECTOR - (offset + start) % SECTOR
        yield offset + start, data[start:end]
        start = end
