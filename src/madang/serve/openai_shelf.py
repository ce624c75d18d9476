"""Files that were sent, and vector stores: collections that hold some of them, read in the background.

A file's content is kept under an id of ours; the name that its sender gave it is only told back. A store is a
collection named after its id. What a server did not finish reading the next one does.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from madang.base.errors import InvalidInput, MadangError, NotFound, Unreadable
from madang.base.records import Filter
from madang.rag.load import SUFFIXES
from madang.serve.openai_ledger import Ledger
from madang.store import Collection
from madang.wire.openai_stores import PREFIX, Adding, Attributes, File, StoreFile
from madang.workspace import Workspace

MOST_FILES, MOST_BYTES = 10_000, 20 << 30
STORE_PREFIX = "vs_"
_KEPT = "openai"                   # the attribute of a collection that makes it a vector store
_ACTIVE_S = 3600                   # how exactly it is known when a store was used last
_log = logging.getLogger("madang.serve")


class Shelf:
    """The files and stores of a workspace. Threads may share it; nothing is made on disk before the first file."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._directory = workspace.path / "files"
        self._lock = threading.Lock()
        self._opened: Ledger | None = None
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="madang-stores")
        self._stopped = threading.Event()
        if (self._directory / "files.db").exists():
            for each in self.ledger.unfinished():
                self._readers.submit(self._read, each.store, each.file)

    @property
    def ledger(self) -> Ledger:
        with self._lock:
            if self._opened is None:
                self._opened = Ledger(self._directory / "files.db")
            return self._opened

    def close(self) -> None:
        """Finish the files that are being read; the rest is for the next time."""
        self._stopped.set()
        self._readers.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    # Files

    def add_file(self, content: Path, name: str, purpose: str, expires_in_s: int | None) -> File:
        """Keep a file that lies at `content` on the same disk; it is moved, not copied."""
        size, now = content.stat().st_size, int(time.time())
        count, total = self.ledger.totals()
        if count >= MOST_FILES or total + size > MOST_BYTES:
            raise InvalidInput(f"{count:,} files with {total:,} bytes are kept already; at most {MOST_FILES:,} with "
                               f"{MOST_BYTES:,} are.", remedy="Delete some.")
        suffix = Path(name).suffix.lower()
        suffix = suffix if suffix in SUFFIXES else ""
        file = File(f"file-{secrets.token_hex(12)}", name, purpose, size, now,
                    None if expires_in_s is None else now + expires_in_s)
        with content.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(content, self._directory / f"{file.id}{suffix}")
        self.ledger.add_file(file, suffix)
        return file

    def incoming(self) -> Path:
        """A directory, not there yet, on the disk where files are kept."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory / f".incoming-{secrets.token_hex(8)}"

    def file(self, id_: str) -> File:
        """Raises `NotFound`, also for one that has expired, which is removed."""
        file, _ = self.ledger.file(id_)
        if file.expires_at is not None and file.expires_at <= time.time():
            self.remove_file(id_)
            raise NotFound(f"No such File object: {id_!r:.80}")
        return file

    def files(self, purpose: str) -> list[File]:
        """Those that have not expired, oldest first."""
        now = time.time()
        return [file for file in self.ledger.files(purpose) if file.expires_at is None or file.expires_at > now]

    def path(self, id_: str) -> Path:
        """Where a file's content is."""
        file, suffix = self.ledger.file(id_)
        return self._directory / f"{file.id}{suffix}"

    def remove_file(self, id_: str) -> None:
        """Remove a file, also from the stores that hold it. Raises `NotFound`."""
        path = self.path(id_)
        for store in self.ledger.remove_file(id_):
            if store in self._workspace.collections():
                self._workspace.collection(store).remove_sources([id_])
        path.unlink(missing_ok=True)

    # Stores

    def create(self, name: str, metadata: dict[str, str], days: int | None, description: str) -> str:
        """Make an empty store; gives its id."""
        store, now = f"{STORE_PREFIX}{secrets.token_hex(12)}", int(time.time())
        kept = {"name": name, "metadata": metadata, "days": days, "created_at": now, "last_active_at": now,
                "description": description or None}
        self._workspace.create_document_collection(store, attributes={_KEPT: kept})
        return store

    def stores(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and what is kept of each, oldest first."""
        found = [(name, self._workspace.collection(name).attributes.get(_KEPT))
                 for name in self._workspace.collections() if name.startswith(STORE_PREFIX)]
        yield from sorted(((name, kept) for name, kept in found if isinstance(kept, dict)),
                          key=lambda each: (each[1]["created_at"], each[0]))

    def store(self, id_: str) -> dict[str, Any]:
        """What is kept of a store. Raises `NotFound`."""
        return self._kept(self._collection(id_), id_)

    def change(self, id_: str, **changes: Any) -> dict[str, Any]:
        """Change what is kept of a store."""
        collection = self._collection(id_)
        kept = {**self._kept(collection, id_), **changes}
        collection.set_attributes({_KEPT: kept})
        return kept

    def remove_store(self, id_: str) -> None:
        """Remove a store; its files stay. Raises `NotFound`."""
        self.store(id_)
        self.ledger.remove(id_)
        self._workspace.drop_collection(id_)

    def used(self, id_: str) -> None:
        """Note that a store was used; raises `NotFound` where it has expired."""
        kept = self.store(id_)
        now = int(time.time())
        if kept.get("days") and kept["last_active_at"] + kept["days"] * 86_400 <= now:
            raise NotFound(f"Vector store {id_!r:.80} has expired.")
        if now - kept["last_active_at"] >= _ACTIVE_S:
            self.change(id_, last_active_at=now)

    def _collection(self, id_: str) -> Collection:
        if not id_.startswith(STORE_PREFIX) or id_ not in self._workspace.collections():
            raise NotFound(f"No vector store found with id {id_!r:.80}.")
        return self._workspace.collection(id_)

    @staticmethod
    def _kept(collection: Collection, id_: str) -> dict[str, Any]:
        kept = collection.attributes.get(_KEPT)
        if not isinstance(kept, dict):
            raise NotFound(f"No vector store found with id {id_!r:.80}.")
        return kept

    # Files within stores

    def add(self, store: str, adding: Sequence[Adding], batch: str = "") -> None:
        """Have files read into a store. Raises `NotFound` for one that is not there, before any is."""
        self.used(store)
        self.ledger.add(store, adding, int(time.time()), self._workspace.settings.ingest.chunk_chars, batch)
        for each in adding:
            self._submit(store, each.file)

    def set_attributes(self, store: str, file: str, attributes: Attributes) -> None:
        """Other attributes of a file, which is read again. Raises `NotFound`."""
        self.ledger.store_file(store, file)
        self.ledger.set_attributes(store, file, attributes)
        self._submit(store, file)

    def take_out(self, store: str, file: str) -> None:
        """Remove a file from a store. Raises `NotFound`."""
        self.ledger.store_file(store, file)
        self.ledger.remove(store, file)
        self._collection(store).remove_sources([file])

    def text(self, store: str, file: str) -> str:
        """What was read of a file. Raises `NotFound`."""
        self.ledger.store_file(store, file)
        source = self._collection(store).source(file)
        return "" if source is None else source.text

    def search(self, store: str, queries: Sequence[str], top_k: int,
               where: Filter | None) -> list[tuple[File, Attributes, float, str]]:
        """The chunks that match best; a score of 1 is first by meaning and by words."""
        self.used(store)
        options = self._workspace.settings.retrieval
        best = (options.dense_weight + options.lexical_weight) / (options.rrf_k + 1)
        found: dict[str, tuple[float, str, str]] = {}
        for query in queries:
            for passage in self._workspace.search(query, store, top_k=top_k, filter=where):
                score = min(1.0, passage.score / best) if best else 0.0
                if passage.id not in found or found[passage.id][0] < score:
                    found[passage.id] = (score, passage.source, passage.text)
        files = {each.file: each for each in self.ledger.store_files(store)}
        told = []
        for score, file, text in sorted(found.values(), key=lambda each: -each[0])[:top_k]:
            if file in files:
                told.append((self.ledger.file(file)[0], files[file].attributes, score, text))
        return told

    def _submit(self, store: str, file: str) -> None:
        if not self._stopped.is_set():
            self._readers.submit(self._read, store, file)

    def _read(self, store: str, file: str) -> None:
        """Read one file into a store and say what became of it. Runs in a thread of its own."""
        settle = partial(self.ledger.settle, store, file)
        try:
            known = self.ledger.store_file(store, file)
            if known.status != "in_progress" or self._stopped.is_set():
                return
            self._add_document(known)
            size = self.ledger.file(file)[0].size_bytes
            if not settle("completed", size=size):        # taken out or cancelled meanwhile
                self._collection(store).remove_sources([file])
        except NotFound:
            settle("failed", code="invalid_file", message="the file or the store is not there any more.")
        except (Unreadable, InvalidInput) as error:
            unknown = not self.path(file).suffix
            message = ("files of this kind are not read; known: "
                       f"{', '.join(sorted(SUFFIXES - {''}))}." if unknown else _without_paths(error, self.path(file)))
            settle("failed", code="unsupported_file" if unknown else "invalid_file", message=message)
        except Exception as error:
            _log.exception("a file could not be read into a vector store")
            settle("failed", code="server_error", message=f"the server failed ({type(error).__name__}).")

    def _add_document(self, known: StoreFile) -> None:
        file, _ = self.ledger.file(known.file)
        self._workspace.add_document(
            self.path(file.id), known.store, uri=file.id, title=file.name, chunk_chars=known.chunk_chars,
            metadata={f"{PREFIX}{name}": value for name, value in known.attributes.items()})


def _without_paths(error: MadangError, path: Path) -> str:
    return str(error).replace(str(path), "the file")
