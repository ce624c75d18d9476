"""A program that ends at every line of snapshot work in turn, as if killed there, and looks at what is left.

`python -m tests.store.crashing DIRECTORY first|every`: at the first run of each line, or at every one. Prints what was
wrong, a line each, and last how often it was ended.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from madang.store import backup, copies, snapshots
from tests.store.contents import Contents, contents_of, fill

_WATCHED = {module.__file__ for module in (backup, copies, snapshots)}
_ENDED, _THROUGH = 7, 0
_LATER = 6                     # one in so many times, what comes later is tried as well


def _not_needed(_: object) -> None:
    """What a process has written outlives it without being synced, and this goes ten times faster."""


def _end_at(line: int, every: bool) -> None:
    """End this process before the so-many-th line is run."""
    seen: set[object] = set()

    def watch(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in _WATCHED:
            return None
        if event == "line":
            seen.add(len(seen) if every else (frame.f_code.co_filename, frame.f_lineno))
            if len(seen) == line:
                os._exit(_ENDED)
        return watch

    sys.settrace(watch)


def _run(work: Callable[[Path], object], directory: Path, line: int, every: bool) -> int:
    child = os.fork()
    if child == 0:
        _end_at(line, every)
        try:
            work(directory)
        except BaseException:
            os._exit(1)
        os._exit(_THROUGH)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _faults(directory: Path, allowed: list[Contents], whole: dict[str, Contents]) -> list[str]:
    """What is not as it should be."""
    found = [] if contents_of(directory) in allowed else ["the records are neither the old nor the new"]
    found += [f"{path.name} belongs to other records" for path in copies.derived(directory)
              if path.read_bytes() != _version(directory)]
    for name in snapshots.names(directory):
        snapshots.verify(directory, name)
        if contents_of(snapshots.path_of(directory, name)) != whole[name]:
            found.append(f"snapshot {name} holds something else")
    return found


def _later_faults(directory: Path, first: Contents) -> list[str]:
    """What is not as it should be after the next operations."""
    snapshots.create(directory, "after")
    snapshots.restore(directory, "first")
    found = [] if contents_of(directory) == first else ["a restore afterwards did not work"]
    hidden = [path.name for path in (*directory.iterdir(), *(directory / "snapshots").iterdir())
              if path.name.startswith(".") and path.name != ".lock"]
    return [*found, *(f"left behind: {name}" for name in hidden)]


def _version(directory: Path) -> bytes:
    """What the derived files here hold: the version of the records they belong to."""
    return str(json.loads(str(contents_of(directory)[0][2]))["v"]).encode()


def main(root: Path, every: bool) -> None:
    os.fsync = _not_needed
    ready = root / "ready" / "docs"
    fill(ready, 5)
    (ready / "index-5.bin").write_bytes(b"5")
    snapshots.create(ready, "first")
    old = contents_of(ready)
    fill(ready, 9)
    (ready / "index-5.bin").unlink()
    (ready / "index-9.bin").write_bytes(b"9")
    new = contents_of(ready)
    backup.create(ready, root / "kept.zip")
    whole = {"first": old, "second": new}
    works: dict[str, tuple[Callable[[Path], object], list[Contents]]] = {
        "create": (lambda where: snapshots.create(where, "second"), [new]),
        "restore": (lambda where: snapshots.restore(where, "first"), [old, new]),
        "delete": (lambda where: snapshots.delete(where, "second"), [new]),
        "backup": (lambda where: backup.create(where, where.parent / "b.zip", overwrite=True), [new]),
        "restore a backup": (lambda where: backup.restore(root / "kept.zip", where, replace=True), [new])}
    ended = 0
    for name, (work, allowed) in works.items():
        line, directory = 1, root / "tried" / "docs"
        while True:
            shutil.copytree(ready.parent, directory.parent)
            if name == "delete":
                snapshots.create(directory, "second")
            code = _run(work, directory, line, every)
            try:
                faults = _faults(directory, allowed, whole)
                if line % _LATER == 0:
                    faults += _later_faults(directory, old)
            except Exception as error:
                faults = [f"{type(error).__name__}: {error}"]
            if code == 1:
                faults.append("it failed")
            for fault in faults:
                print(f"{name}, ended at line {line}: {fault}")
            shutil.rmtree(directory.parent)
            if code != _ENDED:
                break
            ended, line = ended + 1, line + 1
    print(ended)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "every")
