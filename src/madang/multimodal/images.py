"""Pictures into a collection: decode, make small, embed, mark what is nearly the same, commit.

Doing it twice touches only what changed.

A window of files is decoded side by side, embedded together and committed in one transaction; the next one is decoded
meanwhile. Thumbnails are made anew from the pixels, so that nothing of what a camera noted is in them.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from madang.base import trace
from madang.base.errors import InvalidInput, MadangError, NotFound, Unreadable
from madang.base.messages import Problem
from madang.base.records import MetadataValue, Record, Source
from madang.models.pictures import centred, measured
from madang.models.protocol import ImageEmbedder, Picture, Vectors
from madang.multimodal import frames, near
from madang.multimodal.pairs import Captioned, read_pictures
from madang.store.protocol import CollectionProtocol
from madang.store.validate import MAX_ID_CHARS
from madang.store.validate import metadata as checked_metadata

if TYPE_CHECKING:
    from PIL import Image

RECIPE = 2             # raise when the same bytes become something else: every picture is then done again once
SIDE = 192             # pixels of a thumbnail's longer edge
_ENOUGH, _ENOUGH_OF_FRAMES = 384, 256      # pixels of the shorter edge that a model is given at most
_WINDOW = 64           # files
_SLICE = 256           # pictures embedded at a time
_NEIGHBOURS = 8
DUPLICATE = "duplicate_of"         # "" for a picture that is like none before it
_VIDEO = "madang video"            # among what is known of a file while it is on its way
_ROW = re.compile(r"#\d{8}$")      # of a Parquet file, at the end of a uri


@dataclass(slots=True)
class ImageReport:
    """What an ingest did. `added + updated + unchanged + failed` are the files seen; `pictures` counts frames, too."""

    collection: str
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    pictures: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return len(self.problems)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "failed": self.failed}


@dataclass(frozen=True, slots=True)
class ImageProgress:
    """How far an ingest is."""

    files_done: int
    files_total: int
    pictures: int
    seconds: float


Listener = Callable[[ImageProgress], None]
_ONE_VIDEO = threading.Lock()


@dataclass(frozen=True, slots=True)
class _File:
    """A file to look at: what it is called in the collection, and what is said of it."""

    uri: str
    source: Captioned

    @property
    def video(self) -> Path | None:
        """Where it is, if it is one."""
        path = self.source.about.get(_VIDEO)
        return None if path is None else Path(path)


@dataclass(slots=True)
class _Seen:
    """A picture, or a frame, decoded."""

    id: str
    small: Picture
    fingerprint: str
    thumbnail: bytes
    metadata: dict[str, MetadataValue]


@dataclass(slots=True)
class _Decoded:
    """A file on its way."""

    uri: str
    text: str = ""
    content_hash: str = ""
    size_bytes: int = 0
    media_type: str = ""
    seen: list[_Seen] = field(default_factory=list)
    problem: Problem | None = None
    note: str = ""
    unchanged: bool = False


class Thumbnails:
    """Small JPEGs of a collection's pictures, in files named by the picture's id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, id: str) -> Path:  # noqa: A002
        name = hashlib.blake2b(id.encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}.jpg"

    def put(self, id: str, data: bytes) -> None:  # noqa: A002
        path = self.path(id)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{secrets.token_hex(4)}.part")
        part.write_bytes(data)
        part.replace(path)

    def read(self, id: str) -> bytes:  # noqa: A002
        """Raises `NotFound`."""
        try:
            return self.path(id).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"there is no thumbnail of {id!r:.200}.", remedy="Ingest the picture again.") from None

    def has(self, id: str) -> bool:  # noqa: A002
        return self.path(id).exists()

    def drop(self, id: str) -> None:  # noqa: A002
        self.path(id).unlink(missing_ok=True)


def ingest_images(paths: Sequence[str | Path], collection: CollectionProtocol, model: ImageEmbedder,
                  thumbnails: Thumbnails, *, every_s: float = 2.0, exclude: Sequence[Path] = (),
                  uris: Mapping[Path, str] | None = None, captions: Mapping[Path, str] | None = None,
                  progress: Listener | None = None) -> ImageReport:
    """Bring `collection` up to date with pictures: files, folders (captions as in `read_pairs`), Parquet; and videos.

    Of a video a frame every `every_s` seconds is taken. `uris`: what files are called in the collection, else by their
    absolute path; `captions`: of files, in place of those that were found.

    What did not change is left alone, what disappeared from a named folder is removed. A file that cannot be read is
    reported and does not stop the run. Interrupted at any moment, the collection holds what was committed.

    Raises:
        NotFound, InvalidInput: a path does not exist, or holds no picture. Locked: another process is writing.
    """
    if not every_s > 0:
        raise InvalidInput(f"every_s: more than 0 seconds, not {every_s}.")
    with trace.span("ingest images", collection=collection.name):
        faults: list[str] = []
        files, roots = _found(paths, [each.resolve() for each in exclude], uris or {}, captions or {}, faults)
        run = _Run(collection, model, thumbnails, every_s, progress, len(files))
        run.report.problems += [Problem(str(paths[0]), fault) for fault in faults]
        known = {uri: info.content_hash for uri, info in collection.sources().items()}
        present = {each.uri for each in files}
        below = [uri for uri in known if uri not in present and any(_inside(uri, root) for root in roots)]
        if not files and not below and not faults:
            raise InvalidInput(f"{', '.join(map(str, paths))} holds no picture.",
                               remedy="Read are JPEG, PNG, WebP, GIF, BMP, TIFF, and videos.")
        run.remove(below)
        run.all(files, known)
    return run.report


def _found(paths: Sequence[str | Path], exclude: Sequence[Path], uris: Mapping[Path, str],
           captions: Mapping[Path, str], faults: list[str]) -> tuple[list[_File], list[Path]]:
    """The files under some paths, each once, and the folders and tables among these."""
    found: dict[str, _File] = {}
    roots = []
    for given in paths:
        root = Path(os.path.abspath(Path(given).expanduser()))
        if not root.exists():
            raise NotFound(f"there is no {root}.", remedy="Check the path.")
        if root.is_dir():
            roots.append(root)
            for each in [*read_pictures(root, faults), *_videos(root)]:
                path = root / each.name
                if not any(Path(os.path.realpath(path)).is_relative_to(away) for away in exclude):
                    found[str(path)] = _File(str(path), each)
            continue
        uri = uris.get(root, str(root))
        if root.suffix.lower() in frames.SUFFIXES:
            found[uri] = _File(uri, replace(_video(root, root.parent), text=captions.get(root, "")))
            continue
        if root.suffix.lower() == ".parquet":
            roots.append(root)
        try:
            for each in read_pictures(root):
                row = _ROW.search(each.name)
                name = f"{uri}{row[0]}" if row else uri
                found[name] = _File(name, each if row else replace(each, text=captions.get(root, each.text)))
        except Unreadable as error:
            faults.append(str(error))
    return list(found.values()), roots


def _videos(root: Path) -> list[Captioned]:
    """Of a folder; neither hidden ones nor links that lead out of it."""
    inside = root.resolve()
    return [_video(path, root) for path in sorted(root.rglob("*"))
            if path.suffix.lower() in frames.SUFFIXES and path.is_file() and path.resolve().is_relative_to(inside)
            and not any(part.startswith(".") for part in path.relative_to(root).parts)]


def _video(path: Path, root: Path) -> Captioned:
    return Captioned(path.relative_to(root).as_posix(), "", path.read_bytes, {_VIDEO: str(path)})


def _inside(uri: str, root: Path) -> bool:
    return Path(uri).is_relative_to(root) or Path(_ROW.sub("", uri)).is_relative_to(root)


class _Run:
    """One ingest."""

    def __init__(self, collection: CollectionProtocol, model: ImageEmbedder, thumbnails: Thumbnails, every_s: float,
                 progress: Listener | None, total: int) -> None:
        self.report = ImageReport(collection.name)
        self._collection, self._model, self._thumbnails = collection, model, thumbnails
        self._every_s, self._listener, self._total = every_s, progress, total
        self._begun, self._done = time.perf_counter(), 0

    def all(self, files: Sequence[_File], known: Mapping[str, str]) -> None:
        """Decode in windows, each while the one before is embedded."""
        self._tell()
        pool = ThreadPoolExecutor(max(1, os.cpu_count() or 1), "decode")
        try:
            waiting: list[list[Future[_Decoded]]] = []
            for start in range(0, len(files), _WINDOW):
                waiting.append([pool.submit(self._decoded, each, known.get(each.uri))
                                for each in files[start:start + _WINDOW]])
                if len(waiting) > 1:
                    self._window([each.result() for each in waiting.pop(0)], known)
            for last in waiting:
                self._window([each.result() for each in last], known)
        finally:
            pool.shutdown(cancel_futures=True)
        self.report.seconds = round(time.perf_counter() - self._begun, 3)

    def remove(self, uris: Sequence[str]) -> None:
        """What is gone from its folder, with its thumbnails."""
        gone = [id_ for uri in uris for id_ in _ids_of(self._collection, uri)]
        self.report.removed = self._collection.remove_sources(uris)
        for id_ in gone:
            self._thumbnails.drop(id_)

    def _decoded(self, file: _File, known: str | None) -> _Decoded:
        found = _Decoded(file.uri, file.source.text)
        try:
            self._decode(file, known, found)
        except UnicodeEncodeError:
            shown = file.uri.encode("utf-8", "backslashreplace").decode()
            found.problem = Problem(shown, f"{shown}: its name or its caption is no valid text.")
        except MadangError as error:
            found.problem = Problem(file.uri, str(error))
        except OSError as error:
            found.problem = Problem(file.uri, f"{file.uri} cannot be read: {error.strerror or error}.")
        return found

    def _decode(self, file: _File, known: str | None, found: _Decoded) -> None:
        file.uri.encode(), found.text.encode()         # neither may hold half a letter
        video = file.video
        about = {name: value for name, value in file.source.about.items()
                 if name not in (DUPLICATE, _VIDEO) and not isinstance(value, list)}
        about = dict(checked_metadata({**about, "path": file.uri}, file.uri))
        data = file.source.read()
        digest = hashlib.blake2b(data, digest_size=16)
        digest.update(f"{RECIPE}|{self._every_s if video else ''}|{self._model.signature}|{found.text}".encode())
        found.size_bytes, found.content_hash = len(data), digest.hexdigest()
        if found.content_hash == known and (video is not None or self._thumbnails.has(_id(file.uri))):
            found.unchanged = True
        elif video is None:
            picture, size = measured(data, name=file.uri, least_side=2 * _ENOUGH)
            found.media_type = "image"
            found.seen = [_seen(_id(file.uri), picture, size, about, _ENOUGH)]
        else:
            del data
            found.media_type = "video"
            with _ONE_VIDEO:           # its frames are all in memory for a while
                found.seen = [_seen(_id(f"{file.uri}#t={at:.3f}"), picture, picture.size,
                                    {**about, "time_s": round(at, 3)}, _ENOUGH_OF_FRAMES)
                              for at, picture in frames.frames(video, self._every_s)]
            if len(found.seen) == frames.MOST:
                found.note = f"{file.uri}: only the first {frames.MOST:,} frames were taken; give a larger --every."

    def _window(self, decoded: Sequence[_Decoded], known: Mapping[str, str]) -> None:
        good = [each for each in decoded if each.problem is None and not each.unchanged]
        self.report.problems += [each.problem for each in decoded if each.problem is not None]
        self.report.problems += [Problem(each.uri, each.note) for each in good if each.note]
        self.report.unchanged += sum(each.unchanged for each in decoded)
        seen = [one for each in good for one in each.seen]
        if good:
            slices = [self._model.embed_images([one.small for one in seen[start:start + _SLICE]])
                      for start in range(0, len(seen), _SLICE)]
            vectors = np.concatenate(slices) if slices else np.empty((0, self._model.dim), np.float32)
            replaced = {id_ for each in good if each.uri in known for id_ in _ids_of(self._collection, each.uri)}
            self._mark(seen, vectors, replaced)
            for one in seen:
                self._thumbnails.put(one.id, one.thumbnail)
            self._commit(good, vectors)
            for id_ in replaced - {one.id for one in seen}:
                self._thumbnails.drop(id_)
        self.report.pictures += len(seen)
        self.report.updated += sum(each.uri in known for each in good)
        self.report.added += sum(each.uri not in known for each in good)
        self._done += len(decoded)
        self._tell()

    def _mark(self, seen: Sequence[_Seen], vectors: Vectors, replaced: set[str]) -> None:
        """Say of which picture each is a copy: of one before it in the window, or of one in the collection."""
        first = near.within([one.fingerprint for one in seen], vectors)
        away = replaced | {one.id for one in seen}
        for at, one in enumerate(seen):
            if first[at] >= 0:
                original = seen[first[at]]
                one.metadata[DUPLICATE] = original.metadata[DUPLICATE] or original.id
            else:
                one.metadata[DUPLICATE] = self._copied(one, vectors[at], away)
            self.report.duplicates += bool(one.metadata[DUPLICATE])

    def _copied(self, one: _Seen, vector: Any, away: set[str]) -> str:
        """The picture in the collection that this one is a copy of, or "". Those about to be replaced do not count."""
        for match in self._collection.query(vector=vector, top_k=_NEIGHBOURS, filter={DUPLICATE: ""}).matches:
            theirs = (match.metadata or {}).get("fingerprint")
            if match.id not in away and isinstance(theirs, str) and near.alike(one.fingerprint, theirs, match.score):
                return match.id
        return ""

    def _commit(self, good: Sequence[_Decoded], vectors: Vectors) -> None:
        batch, at = [], 0
        for each in good:
            records = []
            for one in each.seen:
                records.append(Record(one.id, np.asarray(vectors[at], np.float32), metadata=one.metadata,
                                      document=each.text or None))
                at += 1
            batch.append((Source(each.uri, each.content_hash, each.text, each.media_type, Path(each.uri).name,
                                 each.size_bytes), records))
        self._collection.replace_sources(batch, embedder=self._model.signature)

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener(ImageProgress(self._done, self._total, self.report.pictures,
                                         time.perf_counter() - self._begun))


def _ids_of(collection: CollectionProtocol, uri: str) -> Iterator[str]:
    """The ids of a file's pictures: its own, or those of a video's frames."""
    page = collection.list_ids(limit=frames.MOST, filter={"path": uri})
    yield from page.ids


def _id(uri: str) -> str:
    """The uri, or where it is longer than an id may be, its beginning and a digest."""
    if len(uri) <= MAX_ID_CHARS:
        return uri
    digest = hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()
    return f"{uri[:MAX_ID_CHARS - 33]}#{digest}"


def _seen(id_: str, picture: Image.Image, size: tuple[int, int], metadata: Mapping[str, MetadataValue],
          enough: int) -> _Seen:
    """A picture as the collection needs it; `size` is that of its file. Raises `Unreadable` where it has no extent."""
    from PIL import Image

    if not picture.width or not picture.height:
        raise Unreadable(f"{id_} has no pixels.")
    thumbnail = Image.fromarray(np.asarray(picture))       # the pixels alone: Pillow would copy comments, too
    thumbnail.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    small = centred(picture)
    if min(small.size) > enough:
        scale = enough / min(small.size)
        small = small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale))),
                             Image.Resampling.BICUBIC, reducing_gap=2.0)
    out = io.BytesIO()
    thumbnail.save(out, "JPEG", quality=82)
    print_ = near.fingerprint(thumbnail)
    return _Seen(id_, np.asarray(small), print_, out.getvalue(),
                 {**metadata, "width": size[0], "height": size[1], "fingerprint": print_, DUPLICATE: ""})
