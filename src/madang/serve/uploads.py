"""Files that a caller sends, piece by piece to disk: as they were named for the caller, as we name them on disk."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from madang.base.errors import InvalidInput

_MOST_FIELD_BYTES = 64 * 1024
_MOST_HEADER_BYTES = 4 * 1024
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')


@dataclass(slots=True)
class Uploaded:
    """`files`: by the name that the caller gave, where they lie. `fields`: the rest of the form."""

    files: dict[str, Path] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


async def receive(content_type: str, pieces: AsyncIterator[bytes | None], directory: Path, most_files: int) -> Uploaded:
    """Write the files of a multipart body below `directory`, each in a folder of its own.

    Raises:
        InvalidInput: no multipart form, a name that is none, too many files, or an end too soon.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidInput("the body is no multipart form.", remedy="Send files as multipart/form-data.")
    form = _Form(directory, most_files)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        async for piece in pieces:
            if piece is None:
                raise InvalidInput("the caller went away.")
            parser.write(piece)
        parser.finalize()
    except FormParserError as error:
        raise InvalidInput(f"the body is no multipart form: {error}.") from None
    finally:
        form.close()
    if not form.ended:
        raise InvalidInput("the multipart form has no end.", remedy="Send it whole.")
    return form.uploaded


class _Form:
    """Takes what the parser finds."""

    def __init__(self, directory: Path, most_files: int) -> None:
        self.uploaded, self.ended = Uploaded(), False
        self._directory, self._most = directory, most_files
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""
        self._file: BinaryIO | None = None
        self._field, self._text = "", bytearray()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {"on_part_begin": self._begin, "on_header_field": self._on_header, "on_header_value": self._on_value,
                "on_header_end": self._on_header_end, "on_headers_finished": self._on_headers,
                "on_part_data": self._data, "on_part_end": self._end, "on_end": self._on_end}

    def _begin(self) -> None:
        self._headers, self._header, self._value = {}, b"", b""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._check(self._header)

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check(self._value)

    def _check(self, text: bytes) -> None:
        if len(text) > _MOST_HEADER_BYTES or len(self._headers) > 16:
            raise InvalidInput("a part of the form has headers that are too long.")

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._field, self._text = _decoded(options.get(b"name", b"")), bytearray()
        if b"filename" not in options:
            return
        if len(self.uploaded.files) >= self._most:
            raise InvalidInput(f"more than {self._most:,} files.", remedy="Send them in several requests.")
        name = clean_name(_decoded(options[b"filename"]))
        if name in self.uploaded.files:
            raise InvalidInput(f"two files are called {name!r:.80}.", remedy="Give each a name of its own.")
        folder = self._directory / str(len(self.uploaded.files))
        folder.mkdir(parents=True)
        path = folder / name.rpartition("/")[2]
        self._file = path.open("xb")
        self.uploaded.files[name] = path

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > _MOST_FIELD_BYTES:
            raise InvalidInput(f"field {self._field!r:.80} is longer than {_MOST_FIELD_BYTES:,} bytes.",
                               remedy="Send a file with a filename.")

    def _end(self) -> None:
        if self._file is None:
            self.uploaded.fields[self._field] = _decoded(bytes(self._text))
        self.close()

    def _on_end(self) -> None:
        self.ended = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def clean_name(name: str) -> str:
    """A caller's name for a file: a relative path without steps upwards. It only names: nothing is read from it.

    Raises `InvalidInput`.
    """
    parts = [part for part in unicodedata.normalize("NFC", name).replace("\\", "/").split("/") if part not in ("", ".")]
    whole = "/".join(parts)
    if not parts or ".." in parts or _FORBIDDEN.search(whole) or max(len(part.encode()) for part in parts) > 200 \
            or len(whole) > 1000:
        raise InvalidInput(f"file name {name!r:.80} is not allowed.",
                           remedy="Use a plain name such as handbook.md, or a relative path.")
    return whole


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("the form holds a name or value that is not UTF-8.") from None
