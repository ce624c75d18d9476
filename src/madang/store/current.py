"""The view of a collection that queries run on, kept up to date: by readers before a query, by a thread behind them."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from madang.base.errors import InvalidInput, MadangError, NotFound
from madang.base.memory import give_back
from madang.index import Metric
from madang.store import derived, embeddings, schema
from madang.store.embeddings import Embedding
from madang.store.indexer import Indexer
from madang.store.pulse import Pulse
from madang.store.reading import Reader
from madang.store.tail import BLOCK
from madang.store.view import View

_MAX_WAITING = 100_000     # vectors that may wait for the index before writers wait for it, too
_PATIENCE_S = 600.0
_TRUST_S = 0.1             # for so long, a number that has not changed is believed
_MOST_READY = 64           # states that are remembered, of filters say
_LATELY_S = 0.1            # since the last write began


class Current:
    """Owns a connection of its own, the view that has caught up with it, and the thread that indexes.

    `follows`: it is of the vectors that the collection is searched with, whichever these are; else only of those given.
    `check_there` raises where the file at `path` is another one by now; `may_save` tells whether this process keeps the
    files; `mark` writes to `records.db` that new ones belong to it.
    """

    def __init__(self, path: Path, embedding: Embedding, metric: Metric, pulse: Pulse | None, *, follows: bool = True,
                 check_there: Callable[[], None], may_save: Callable[[], bool],
                 mark: Callable[[int, list[str], int], None]) -> None:
        self._path, self._metric, self.follows = path, metric, follows
        self.embedding, self.spec = embedding, embedding.spec
        self._check_there, self._may_save, self._mark = check_there, may_save, mark
        self._guard = threading.RLock()    # around the view and the connection; never held long
        self._saving = threading.Lock()
        self._connection = schema.connect(path)
        self._reader = Reader(self._connection, path, embedding.table)
        self._view: View | None = None
        self._kept: list[str] = []         # the token of the files on disk, if there are any
        self._version = -1                 # SQLite's number for the state that the view has seen
        self._pulse = pulse
        self._seen: bytes | None = None    # its number, before that state was read
        self._trusted_until = 0.0
        # What was found out about the view as it is, and the pulse's number that it is up to date by.
        self._ready: tuple[bytes | None, dict[Any, Any]] = (None, {})
        self._closed = False
        self._written_at = 0.0
        self.indexer = Indexer(self._step, path.parent.name)
        self._looking = _Looking(self._guard, self._refreshed)

    # For readers

    def view(self) -> AbstractContextManager[View]:
        """The view, up to date with what is committed by whichever process, and nobody else at it. Not to be held
        while searching vectors: take a `Reading`."""
        return self._looking

    @contextmanager
    def transaction(self) -> Iterator[tuple[View, Reader]]:
        """The view and a reader of the very state that it has seen."""
        with self._guard:
            self._refreshed()
            self._connection.execute("BEGIN")
            try:
                yield self._caught_up(), self._reader
            finally:
                self._connection.execute("COMMIT")

    def ready(self, key: Hashable) -> Any:
        """What `keep` was told under this key, where the view is known to be the same still and up to date, else None.

        Without the guard: threads that meet at it let go of the interpreter, which takes longer than a search.
        """
        seen, ready = self._ready      # which belong together: another thread may bring the view up to date meanwhile
        known = ready.get(key)
        fresh = known is not None and self.trusted and seen is not None and seen == self._seen
        return known if fresh else None

    def keep(self, key: Hashable, what: Any) -> None:
        """Remember what was found out about the view, while nobody else is at it."""
        ready = self._ready[1]
        if len(ready) >= _MOST_READY:
            ready.clear()
        ready[key] = what

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody gets at the view meanwhile."""
        with self._guard:
            yield

    @property
    def trusted(self) -> bool:
        """Whether the view is known to be up to date without looking at the file."""
        return not self._closed and self._view is not None and self._trusts(
            None if self._pulse is None else self._pulse.read(), time.monotonic())

    def _trusts(self, seen: bytes | None, now: float) -> bool:
        return seen is not None and seen == self._seen and now < self._trusted_until

    @property
    def dim(self) -> int:
        return self.embedding.dim

    def _refreshed(self) -> View:
        if self._closed:
            raise InvalidInput(f"collection {self._path.parent.name!r} is closed.", remedy="Open the workspace again.")
        seen = None if self._pulse is None else self._pulse.read()      # before what it tells about
        now = time.monotonic()
        if self._view is not None and self._trusts(seen, now):
            return self._view
        self._check_there()
        view = self._looked()
        self._seen, self._trusted_until = seen, now + _TRUST_S
        if self._ready[0] != seen:
            self._ready = seen, self._ready[1]
        return view

    def _looked(self) -> View:
        """The view, up to date by the number that SQLite keeps."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if version == self._version and self._view is not None:
            return self._view
        self._connection.execute("BEGIN")
        try:
            view = self._caught_up()
        finally:
            self._connection.execute("COMMIT")
        self._version = version
        return view

    def _caught_up(self) -> View:
        """Inside a read transaction."""
        self._ready = None, {}
        self._follow()
        generation = self._reader.meta("generation") or 0
        try:
            view = self._view
            if view is not None and generation != view.generation:  # someone re-analyzed: all postings have changed
                view.read_words(self._reader)
                view.generation = generation
            if view is None or not view.catch_up(self._reader):
                view = self._opened(generation)
            self._view = view
        except BaseException:  # half absorbed is worse than not at all
            self._view = None
            raise
        if view.dense.waiting() >= BLOCK or view.dense.worth_removing() or self._worn(view):
            self.indexer.wake()
        return view

    def _follow(self) -> None:
        """Take the vectors that are searched now, where another process has made them others."""
        made = self._reader.meta("made") or ""
        if made == self.embedding.made:
            return
        if self.follows:
            self.embedding = embeddings.live(self._reader.meta)
            self.spec = self.embedding.spec
            self._reader = Reader(self._connection, self._path, self.embedding.table)
            self._view, self._kept = None, []
        elif (shadow := embeddings.shadow(self._reader.meta)) is None or shadow.made != self.embedding.made:
            raise NotFound(f"the shadow of collection {self._path.parent.name!r} was dropped, or begun anew.",
                           remedy="Ask for it again.")

    def _opened(self, generation: int) -> View:
        """From the files where they can be used, else from the records alone."""
        tokens = self._reader.meta(derived.TOKENS[self.embedding.table]) or []
        view = derived.load(self._path.parent, replace(self.embedding, spec=self.spec), self._metric, tokens)
        if view is not None and self._within(view):
            self._kept = [view.token]
            view.after_loading(self._reader)
            if view.generation != generation:
                view.read_words(self._reader)
                view.generation = generation
            if view.catch_up(self._reader):
                return view
        view = View(self.dim, self._metric, self.spec)
        self._reader.check()     # no checksum of a record tells that one is lost
        view.generation = generation
        view.last_tombstone = self._reader.last_tombstone()
        view.catch_up(self._reader)
        return view

    def _within(self, view: View) -> bool:
        """Whether a view from a file knows nothing that the records do not."""
        rows = view.rows.view()
        return (not len(rows) or int(rows[-1]) < int(self._reader.meta("next_row"))) and (
            view.last_tombstone <= self._reader.last_tombstone())

    # For writers

    def wait_for_room(self) -> None:
        """Where the index is far behind, writers wait for it: what it has not absorbed is in memory and compared one by
        one."""
        self._written_at = time.monotonic()
        view = self._view
        if view is not None and view.spec == self.spec and self._waiting() > _MAX_WAITING:
            self.indexer.wait_for(lambda: self._waiting() <= _MAX_WAITING, _PATIENCE_S)

    def _waiting(self) -> int:
        view = self._view
        return 0 if view is None else view.dense.waiting()

    def written(self) -> None:
        """Something was committed, and is not acknowledged yet."""
        if self._pulse is not None:
            self._pulse.beat()
        if self.spec["kind"] != "flat" or (self._view is not None and self._view.spec != self.spec):
            self.indexer.wake()

    # The thread

    def _step(self) -> bool:
        """A block into the index, or what is dead out of it, or all of it to disk. Whether there is more."""
        with self._guard:
            if self._closed:
                return False
            view = self._refreshed()
            other = view.spec != self.spec
            block = view.to_absorb() if not other else None
            worn = block is None and self._worn(view)
            gone = view.dense.take_gone() if block is None and view.dense.worth_removing() else None
        if other or worn:
            del view
            self._make_anew()
            give_back()
        elif block is not None:
            cut, slots, vectors = block
            view.absorb(slots, vectors, threads=self._threads())
            with self._guard:
                view.absorbed(cut, slots)
                self._ready = self._seen, {}
        elif gone is not None:
            view.dense.cut_out(gone)
        else:
            if view.changed * 8 > len(view.rows) + 8000:
                self._save(view)
            return False
        return True

    def _worn(self, view: View) -> bool:
        """Whether to make a view anew with the same index: only where it will be saved, not by everybody who reads."""
        return view.worn() and self._may_save()

    def _threads(self) -> int:
        """For the index to build with, 0 for all there are: one core is left to whoever is writing."""
        return max(1, (os.cpu_count() or 1) - 1) if time.monotonic() - self._written_at < _LATELY_S else 0

    def _make_anew(self) -> None:
        """Build a view, with the index that is wanted now, beside the old one, which answers meanwhile, and swap."""
        embedding, made = self.embedding, View(self.dim, self._metric, self.spec)
        connection = schema.connect(self._path)
        try:
            reader = Reader(connection, self._path, embedding.table)
            connection.execute("BEGIN")
            made.generation = reader.meta("generation") or 0
            made.last_tombstone = reader.last_tombstone()
            made.catch_up(reader)
            connection.execute("COMMIT")
        finally:
            connection.close()
        while not self.indexer.stopping and (block := made.to_absorb()) is not None:
            cut, slots, vectors = block
            made.absorb(slots, vectors, threads=self._threads())
            made.absorbed(cut, slots)
        with self._guard:
            if not self.indexer.stopping and made.spec == self.spec and embedding == self.embedding:
                self._view, self._version, self._seen = made, -1, None
                self._ready = None, {}

    def _save(self, view: View) -> None:
        """Only the process that writes to the workspace keeps the files. What cannot be written, on a full disk say, is
        made anew another time."""
        with self._saving:
            if not self._may_save() or not view.dense.absorbed or view.dense.tail is None:
                return
            try:
                with self._guard:
                    if view is not self._view:      # of other vectors by now: it must not be taken for theirs
                        return
                    gone, embedding = view.dense.take_gone(), replace(self.embedding, spec=view.spec)
                view.dense.cut_out(gone)
                token = derived.token()
                self._mark(embedding.table, [token, *self._kept], view.last_tombstone)
                with self._guard:
                    captured, view.changed = derived.capture(view), 0
                derived.save(self._path.parent, embedding, view.dense.index, captured, token)
                self._kept = [token]
                del captured
                give_back()
            except (OSError, sqlite3.Error, MadangError):
                view.changed = max(view.changed, 1)

    def save(self) -> None:
        """Write the files now, if this process may."""
        with self.view() as view:
            pass
        self._save(view)

    def forget(self) -> None:
        """Begin anew, from the records alone."""
        with self._guard:
            self._view, self._ready = None, (None, {})
            derived.remove(self._path.parent, self.embedding.table)

    def close(self, keep: bool = True) -> None:
        """End the thread, save where that is worth it, close the connection."""
        self.indexer.stop()
        with self._guard:
            view, closed = self._view, self._closed
        try:
            if keep and not closed and view is not None and view.changed and view.spec == self.spec:
                self._save(view)        # takes the guard itself, after a lock of its own
        finally:
            with self._guard:
                self._closed = True
                self._connection.close()


class _Looking(AbstractContextManager[View]):
    """A guard around what is up to date; a generator would cost as much as a tenth of a search."""

    def __init__(self, guard: threading.RLock, refreshed: Callable[[], View]) -> None:
        self._guard, self._refreshed = guard, refreshed

    def __enter__(self) -> View:
        self._guard.acquire()
        try:
            return self._refreshed()
        except BaseException:
            self._guard.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._guard.release()
