"""Pictures with their captions: folders in the usual layouts, Parquet files, and DiffusionDB's own.

Nothing is decoded here; a `Captioned` knows where its bytes are.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from madang.base.errors import InvalidInput, MissingDependency, NotFound, Unreadable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
TEXT_COLUMNS = ("text", "prompt", "caption", "p", "description", "label")
_IMAGE_COLUMNS = ("image", "image_name", "file_name", "picture", "img")
_LONGEST_FIELD = 10_000_000        # letters of a field of a table
_Read: TypeAlias = Callable[[], bytes]
_Row: TypeAlias = tuple[int, dict[str, Any]]       # where it is in its file, and what it says


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture, what is said of it, and what else its source knew; `read` gives its bytes."""

    name: str
    text: str
    read: _Read = field(repr=False)
    about: dict[str, Any] = field(default_factory=dict)


def read_pairs(path: str | Path, *, text_column: str = "") -> list[Captioned]:
    """All pictures with captions under a path, in the order of their names.

    A folder may have metadata.jsonl, metadata.csv or metadata.parquet (file_name or image_name, and text, prompt or
    caption; as the library `datasets` and DiffusionDB lay them out), DiffusionDB's part-*/part-*.json, a .txt beside
    each picture, or a folder for each label. A Parquet file has a column of pictures, as `datasets` writes it.

    Raises `NotFound` where there is no such path, `InvalidInput` where no picture has a caption, `Unreadable` for a
    file that is not what its name says.
    """
    root = Path(path)
    if not root.exists():
        raise NotFound(
            f"data: there is no {root}.", remedy="Name a folder of pictures with captions, or a Parquet file."
        )
    found = list(_parquet(root, text_column) if root.is_file() else _folder(root, text_column))
    if not found:
        raise InvalidInput(
            f"data: {root} has no picture with a caption.",
            remedy="Add metadata.jsonl with file_name and text, a .txt beside each picture, or a folder a label.",
        )
    return sorted(found, key=lambda each: each.name)


def read_pictures(path: str | Path, faults: list[str] | None = None) -> list[Captioned]:
    """All pictures under a path, in the order of their names, with the captions there are: see `read_pairs`.

    A folder for each label says nothing here. What is hidden is left out.

    `faults` takes in what is wrong with descriptions, which else is raised.
    """
    root = Path(path)
    if root.is_file():
        if root.suffix.lower() == ".parquet":
            return list(_parquet(root, "", bare=True))
        if root.suffix.lower() in SUFFIXES:
            return [Captioned(root.name, "", root.read_bytes)]
        raise Unreadable(f"{root} is no picture, video or Parquet file.")
    kept = [] if faults is None else faults
    said: dict[str, Captioned] = {}
    with _noted(kept, faults is not None):
        said = {each.name: each for each in (_folder(root, "", kept) if _has_captions(root) else ())}
    found = [said.get(name) or Captioned(name, "", each.read_bytes)
             for each in pictures_in(root) for name in [_name(each, root)]]
    for table in sorted(root.rglob("*.parquet")):
        if table.name != "metadata.parquet" and _is_inside(table, root):
            with _noted(kept, faults is not None):
                found += _parquet(table, "", _name(table, root), bare=True)
    return [each for each in found if not any(part.startswith(".") for part in Path(each.name).parts)]


def read_beside(picture: Path) -> Captioned:
    """One picture with what is said of it in its own folder: metadata.jsonl, .csv or .parquet, DiffusionDB's
    part-*.json, or a .txt. Nothing below or above is looked at; what cannot be read there says nothing."""
    root = picture.parent
    with suppress(Unreadable):
        for suffix, rows in _READERS.items():
            source = root / f"metadata{suffix}"
            if source.is_file():
                for _, row in rows(source):
                    if picture.name in (row.get(name) for name in _IMAGE_COLUMNS):
                        return Captioned(picture.name, _caption(row, "", source), picture.read_bytes, _rest(row))
                break
        for part in sorted(root.glob("part-*.json")):
            for each in _part(part, root, ""):
                if each.name == picture.name:
                    return each
        text = _beside(picture, root)
        if text is not None:
            return Captioned(picture.name, _text(text).strip(), picture.read_bytes)
    return Captioned(picture.name, "", picture.read_bytes)


@contextmanager
def _noted(faults: list[str], wanted: bool) -> Iterator[None]:
    """Where it is wanted, what cannot be read is noted and costs only what follows within."""
    try:
        yield
    except Unreadable as error:
        if not wanted:
            raise
        faults.append(str(error))


def _has_captions(root: Path) -> bool:
    if _descriptions(root) or any(root.glob("**/part-*.json")):
        return True
    return any(_beside(path, root) for path in pictures_in(root))


def pictures_in(folder: Path) -> list[Path]:
    """Files that look like pictures, in the order of their names; links are not followed out of the folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and _is_inside(path, folder))


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether it is a file of the folder, not a link to one elsewhere."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _beside(path: Path, root: Path) -> Path | None:
    """The text beside a picture."""
    text = path.with_suffix(".txt")
    return text if _is_inside(text, root) else None


def _folder(root: Path, column: str, faults: list[str] | None = None) -> Iterator[Captioned]:
    descriptions = _descriptions(root)
    if descriptions:
        for source in descriptions:
            yield from _described(source.parent, root, _READERS[source.suffix](source), column, source, faults)
        return
    parts = sorted(root.glob("**/part-*.json"))
    if parts:
        for part in parts:
            yield from _part(part, root, column)
        return
    tables = sorted(root.glob("**/*.parquet"))
    if tables:
        for each in tables:
            yield from _parquet(each, column, _name(each, root))
        return
    pictures = pictures_in(root)
    beside = [(path, text) for path in pictures if (text := _beside(path, root)) is not None]
    for path, text in beside:
        said = ""
        with _noted([] if faults is None else faults, faults is not None):
            said = _text(text).strip()
        yield Captioned(_name(path, root), said, path.read_bytes)
    if not beside:
        for path in pictures:
            if path.parent != root:
                yield Captioned(_name(path, root), path.relative_to(root).parts[0].replace("_", " "), path.read_bytes)


def _descriptions(root: Path) -> list[Path]:
    """Each folder's metadata.jsonl, .csv or .parquet, the first of these that it has."""
    found: dict[Path, Path] = {}
    for suffix in _READERS:
        for path in sorted(root.rglob(f"metadata{suffix}")):
            if _is_inside(path, root):
                found.setdefault(path.parent, path)
    return [found[folder] for folder in sorted(found)]


def _described(root: Path, top: Path, rows: Iterator[_Row], column: str, source: Path,
               faults: list[str] | None) -> Iterator[Captioned]:
    """Pictures of the folder `root`, named from `top`."""
    pictures = pictures_in(root)
    places = {path.name: path for path in pictures} | {_name(path, root): path for path in pictures}
    for number, row in rows:
        file = next((str(row[name]) for name in _IMAGE_COLUMNS if row.get(name)), "")
        named = os.path.normpath(os.path.join(root, file))
        path = places.get(os.path.relpath(named, root)) or (None if Path(file).parent.parts else places.get(file))
        if path is None:
            fault = f"{source}, line {number}: {file or 'no file_name'} is no picture in {root}."
            if faults is None:
                raise Unreadable(fault)
            faults.append(fault)
            continue
        text = _caption(row, column, source)
        if text:
            yield Captioned(_name(path, top), text, path.read_bytes, _rest(row))


def _part(part: Path, root: Path, column: str) -> Iterator[Captioned]:
    """A part of DiffusionDB: a file name to its prompt ("p"), seed ("se"), guidance ("c"), steps ("st") and sampler
    ("sa").
    """
    long = {"se": "seed", "c": "cfg", "st": "step", "sa": "sampler"}
    for file, row in _json(part).items():
        if not isinstance(row, dict):
            raise Unreadable(f"{part}: {file!r:.80} has no JSON object.")
        path = part.parent / Path(file).name
        text = _caption(row, column, part)
        if _is_inside(path, root) and text:
            yield Captioned(
                _name(path, root),
                text,
                path.read_bytes,
                {long[key]: value for key, value in row.items() if key in long},
            )


def _parquet(path: Path, column: str, named: str = "", bare: bool = False) -> Iterator[Captioned]:
    """The rows of a table; `bare`: also those without a caption."""
    parquet = _pyarrow()
    try:
        file = parquet.ParquetFile(path)
    except Exception as error:
        raise Unreadable(f"{path} is no Parquet file: {error}.") from None
    names = file.schema_arrow.names
    image = next((name for name in _IMAGE_COLUMNS if name in names), None)
    if image is None:
        raise Unreadable(f"{path} has no column of pictures ({', '.join(_IMAGE_COLUMNS)}), but {', '.join(names)}.")
    others = [name for name in names if name != image]
    row = 0
    for group in range(file.num_row_groups):
        for at, about in enumerate(file.read_row_group(group, columns=others).to_pylist()):
            text = _caption(about, column, path)
            if text or bare:
                yield Captioned(f"{named or path.name}#{row:08d}", text, _cell(path, image, group, at), _rest(about))
            row += 1


def _cell(path: Path, column: str, group: int, at: int) -> _Read:
    def read() -> bytes:
        found = _cells(str(path), path.stat().st_mtime_ns, column, group)[at]
        value = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(value, bytes):
            raise Unreadable(f"{path}, row group {group}, row {at}: no bytes of a picture.")
        return value

    return read


@lru_cache(maxsize=1)  # rows are read in turn
def _cells(path: str, changed: int, column: str, group: int) -> list[Any]:
    found: list[Any] = _pyarrow().ParquetFile(path).read_row_group(group, columns=[column]).column(0).to_pylist()
    return found


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingDependency("Reading Parquet", extra="parquet") from None
    return parquet


def _json_lines(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(_text(path).split("\n"), start=1):      # a string of JSON may hold other line ends
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise Unreadable(f"{path}, line {number}: not JSON ({error}).") from None
            if not isinstance(row, dict):
                raise Unreadable(f"{path}, line {number}: not a JSON object.")
            yield number, row


def _rows(path: Path) -> Iterator[_Row]:
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), restkey="")
    try:
        for row in reader:
            yield reader.line_num, {name: value for name, value in row.items() if name}
    except csv.Error as error:
        raise Unreadable(f"{path}, line {reader.line_num}: {error}.") from None


def _table(path: Path) -> Iterator[_Row]:
    try:
        rows = _pyarrow().ParquetFile(path).read().to_pylist()
    except MissingDependency:
        raise
    except Exception as error:
        raise Unreadable(f"{path} is no Parquet file: {error}.") from None
    yield from enumerate(rows, start=1)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise Unreadable(f"{path} is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise Unreadable(f"{path} is not a JSON object.")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable(f"{path} is not UTF-8 text.") from None


def _caption(row: dict[str, Any], column: str, source: Path) -> str:
    if column:
        if column not in row:
            raise InvalidInput(f"text_column: {source} has no {column!r}, but {', '.join(row)}.")
        return "" if row[column] is None else str(row[column]).strip()
    said = (str(row[name]).strip() for name in TEXT_COLUMNS if row.get(name) is not None)
    return next(filter(None, said), "")


def _rest(row: dict[str, Any]) -> dict[str, Any]:
    kept = (str, int, float, bool, list)
    return {
        name: value
        for name, value in row.items()
        if name not in TEXT_COLUMNS and name not in _IMAGE_COLUMNS and isinstance(value, kept)
    }


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def split(pairs: Sequence[Captioned], share: float) -> tuple[list[Captioned], list[Captioned]]:
    """A part to learn from and every so-manyth to be examined with, decided by their names alone."""
    import xxhash

    held = [xxhash.xxh3_64_intdigest(each.name.encode()) % 1000 < share * 1000 for each in pairs]
    return (
        [each for each, away in zip(pairs, held, strict=True) if not away],
        [each for each, away in zip(pairs, held, strict=True) if away],
    )


_READERS: dict[str, Callable[[Path], Iterator[_Row]]] = {".jsonl": _json_lines, ".csv": _rows, ".parquet": _table}
