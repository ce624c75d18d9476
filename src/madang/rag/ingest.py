"""Documents into a collection: load, chunk, embed, commit. Doing it twice touches only what changed.

A window of files is embedded together (long and short texts sorted, so that little is padded) and committed in one
transaction; a file is always whole in it. Loading the next window overlaps with embedding this one.
"""

from __future__ import annotations

import hashlib
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from madang.base import trace
from madang.base.errors import InvalidInput, MadangError, Unreadable
from madang.base.messages import IngestReport, Problem
from madang.base.records import Metadata, Record, Source
from madang.models.protocol import Embedder
from madang.rag.chunk import Chunk, chunk, embedding_text
from madang.rag.discover import discover, is_gone
from madang.rag.load import Document, load
from madang.store.protocol import CollectionProtocol

# Raise when loading or chunking changes what it makes of the same bytes: every file is then redone once.
RECIPE = 1
_WINDOW_CHUNKS = 512


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingest is. `committed` are the sources that this event acknowledges: they are safe on disk."""

    files_done: int
    files_total: int
    bytes_done: int
    bytes_total: int
    chunks: int
    seconds: float
    committed: tuple[str, ...] = ()


ProgressListener = Callable[[IngestProgress], None]


@dataclass(slots=True)
class _Prepared:
    """A file on its way: what the loader thread made of it, or why it could not."""

    uri: str
    size_bytes: int
    source: Source | None = None
    records: list[Record] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    problem: Problem | None = None


def ingest(paths: Sequence[str | Path], collection: CollectionProtocol, embedder: Embedder, *,
           chunk_chars: int = 800, max_file_bytes: int | None = None, exclude: Sequence[Path] = (),
           namespace: str = "", uris: Mapping[Path, str] | None = None,
           progress: ProgressListener | None = None) -> IngestReport:
    """Bring `collection` up to date with files and folders.

    `uris`: what files are called in the collection; else by their absolute path.

    Files whose content did not change are left alone, changed ones replaced, files that disappeared from a named
    folder removed. A file that cannot be read is reported, keeps what was known of it, and does not stop the run.
    Interrupted at any moment, the collection holds what was committed, and the next run does the rest.

    Raises:
        NotFound, InvalidInput: a path does not exist, or there is nothing to read; before anything is changed.
        Locked: another process is writing.
    """
    with trace.span("ingest", collection=collection.name):
        found = discover(paths, exclude)
        known = {uri: info.content_hash for uri, info in collection.sources(namespace).items()}
        run = _Run(collection, embedder, namespace, progress, known, len(found.files), found.size_bytes)
        run.report.skipped = found.skipped
        run.report.problems += found.problems
        present = {str(path) for path in found.files}
        below = [uri for uri in known if any(Path(uri).is_relative_to(root) for root in found.roots)]
        if not found.files and not below and not found.problems:
            raise InvalidInput(f"{', '.join(map(str, paths))} holds no file that can be read "
                               f"({found.skipped} others skipped).",
                               remedy="Supported: text, Markdown, HTML, PDF, DOCX and source code.")
        gone = [uri for uri in below if uri not in present and is_gone(uri)]
        run.report.removed = collection.remove_sources(gone, namespace)
        recipe = f"{RECIPE}|{chunk_chars}|{embedder.signature}"
        named = {path.resolve(): uri for path, uri in (uris or {}).items()}
        files = [(path, named.get(path, str(path))) for path in found.files]
        with _loading(files, known, recipe, chunk_chars, max_file_bytes) as prepared:
            run.consume(prepared)
    return run.report


class _Run:
    """One ingest: collects windows of prepared files, embeds and commits them."""

    def __init__(self, collection: CollectionProtocol, embedder: Embedder, namespace: str,
                 progress: ProgressListener | None, known: dict[str, str], files_total: int,
                 bytes_total: int) -> None:
        self.report = IngestReport(collection.name)
        self._collection, self._embedder, self._namespace = collection, embedder, namespace
        self._listener, self._known = progress, known
        self._started = time.perf_counter()
        self._state = IngestProgress(0, files_total, 0, bytes_total, 0, 0.0)

    def consume(self, prepared: Iterator[_Prepared]) -> None:
        window: list[_Prepared] = []
        self._tell()
        for item in prepared:
            if item.problem is not None:
                self.report.problems.append(item.problem)
                self._settle([item])
            elif item.source is None:
                self.report.unchanged += 1
                self._settle([item])
            else:
                window.append(item)
                if sum(len(each.texts) for each in window) >= _WINDOW_CHUNKS:
                    self._commit(window)
                    window = []
        if window:
            self._commit(window)
        self.report.seconds = round(time.perf_counter() - self._started, 3)

    def _commit(self, window: list[_Prepared]) -> None:
        texts = [text for item in window for text in item.texts]
        size, before = sum(item.size_bytes for item in window), self._state
        embedded = 0

        def embedded_more(count: int) -> None:
            nonlocal embedded
            embedded += count
            self._tell(replace(before, bytes_done=before.bytes_done + size * embedded // max(len(texts), 1),
                               chunks=before.chunks + embedded))

        vectors = self._embedder.embed(texts, "document", embedded_more)
        for record, vector in zip((r for item in window for r in item.records), vectors, strict=True):
            record.values = vector
        batch = [(item.source, item.records) for item in window if item.source is not None]
        self.report.chunks += self._collection.replace_sources(batch, self._namespace)
        for item in window:
            if item.uri in self._known:
                self.report.updated += 1
            else:
                self.report.added += 1
        self._settle(window, committed=True)

    def _settle(self, items: Sequence[_Prepared], committed: bool = False) -> None:
        before = self._state
        self._state = replace(before, files_done=before.files_done + len(items), chunks=self.report.chunks,
                              bytes_done=before.bytes_done + sum(item.size_bytes for item in items))
        self._tell(replace(self._state, committed=tuple(item.uri for item in items) if committed else ()))

    def _tell(self, state: IngestProgress | None = None) -> None:
        if self._listener is not None:
            self._listener(replace(state or self._state, seconds=time.perf_counter() - self._started))


class _loading:  # noqa: N801 - used as a context manager, like a function
    """Prepares files in a thread, a bounded number ahead; leaving the block stops it."""

    def __init__(self, files: Sequence[tuple[Path, str]], known: dict[str, str], recipe: str, chunk_chars: int,
                 max_file_bytes: int | None) -> None:
        self._queue: queue.Queue[_Prepared | BaseException | None] = queue.Queue(maxsize=256)
        self._stop = threading.Event()

        def work() -> None:
            last: BaseException | None = None
            try:
                for path, uri in files:
                    if self._stop.is_set():
                        return
                    self._put(_prepare(path, uri, known, recipe, chunk_chars, max_file_bytes))
            except BaseException as error:  # a defect, handed over to be raised where the caller sees it
                last = error
            self._put(last)

        self._thread = threading.Thread(target=work, name="madang-load", daemon=True)

    def _put(self, item: _Prepared | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def __enter__(self) -> Iterator[_Prepared]:
        self._thread.start()
        return self._items()

    def _items(self) -> Iterator[_Prepared]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _prepare(path: Path, uri: str, known: dict[str, str], recipe: str, chunk_chars: int,
             max_file_bytes: int | None) -> _Prepared:
    """Read, hash, load and chunk one file."""
    size = 0
    try:
        uri.encode("utf-8")
        status = path.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode) or (max_file_bytes is not None and size > max_file_bytes):
            load(path, max_bytes=max_file_bytes)  # says why it is refused, without reading it
            raise Unreadable(f"{path} changed while it was read.", remedy="Ingest it again.")
        digest = hashlib.blake2b(recipe.encode(), digest_size=16)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        content_hash = digest.hexdigest()
        if known.get(uri) == content_hash:
            return _Prepared(uri, size)
        document = load(path, max_bytes=max_file_bytes)
        return _cut(document, Source(uri, content_hash, document.text, document.media_type,
                                     document.title or path.name, size, document.pages), chunk_chars)
    except UnicodeEncodeError:
        shown = uri.encode("utf-8", "backslashreplace").decode()
        return _Prepared(uri, size, problem=Problem(shown, f"{shown} has a name that is not UTF-8. Rename the file."))
    except MadangError as error:
        return _Prepared(uri, size, problem=Problem(uri, str(error)))
    except OSError as error:
        return _Prepared(uri, size, problem=Problem(uri, f"{path} cannot be read: {error.strerror or error}."))


def _cut(document: Document, source: Source, chunk_chars: int) -> _Prepared:
    prepared = _Prepared(source.uri, source.size_bytes, source)
    prefix = hashlib.blake2b(source.uri.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    for number, piece in enumerate(chunk(document, max_chars=chunk_chars)):
        text = document.text[piece.start:piece.end]
        whole = embedding_text(piece, document)
        prepared.texts.append(whole)
        prepared.records.append(Record(f"{prefix}:{number:05d}", None, None, _metadata(piece, source), text,
                                       whole.removesuffix(text).strip() or None))
    return prepared


def _metadata(piece: Chunk, source: Source) -> Metadata:
    metadata: Metadata = {"source": source.uri, "title": source.title, "start": piece.start, "end": piece.end,
                          "line": piece.line}
    if piece.heading:
        metadata["heading"] = piece.heading
    if piece.page is not None:
        metadata["page"] = piece.page
    return metadata
