"""Checksums of what `records.db` holds: SQLite does not check its pages, so a flipped bit would be another answer.

XXH3 (64 bits), seeded with the row, so that good bytes under a wrong row are told as well. A record has one sum of its
own, over everything that is not large, and in it the sums of its vector, its sparse vector and its text: each can be
checked when it is read and not before. Sums are signed, as SQLite stores them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from xxhash import xxh3_64_intdigest

_WRAP = 2**64
# The columns of `records` that its checksum covers, with the checksum last; `of_heads` takes rows of these.
HEAD = ("row", "namespace", "id", "source", "vector_sum", "sparse_sum", "text_sum", "metadata", "checksum")


def of(data: bytes, row: int = 0) -> int:
    """The sum of some bytes."""
    found = int(xxh3_64_intdigest(data, row))
    return found - _WRAP if found >= _WRAP >> 1 else found


def of_many(data: Sequence[bytes], rows: Iterable[int]) -> list[int]:
    """The sum of each, fast. Raises TypeError where one is not bytes."""
    found: list[int] = np.fromiter(map(xxh3_64_intdigest, data, rows), dtype=np.uint64,
                                   count=len(data)).view(np.int64).tolist()
    return found


def of_heads(heads: Sequence[Sequence[Any]]) -> list[int]:
    """The sum of each record, from its columns `HEAD`; what follows them is not looked at.

    Neither a namespace nor an id can hold NUL, and the metadata is last: two records never are the same bytes.
    """
    return of_many([f"{h[1]}\0{h[2]}\0{h[3]}\0{h[4]}\0{h[5]}\0{h[6]}\0{h[7]}".encode() for h in heads],
                   [h[0] for h in heads])


def of_text(row: int, document: str | None, context: str | None) -> int | None:
    """The sum of a record's text, None where it has none."""
    if document is None and context is None:
        return None
    sizes = f"{-1 if document is None else len(document)} {-1 if context is None else len(context)} "
    return of(f"{sizes}{document or ''}{context or ''}".encode(), row)


def of_pair(row: int, indices: bytes, weights: bytes) -> int:
    """The sum of a sparse vector or of postings: two arrays of one length and width."""
    return of(indices + weights, row)


def of_source(source: int, namespace: str, uri: str, media_type: str, title: str, size_bytes: int, pages: str,
              text: bytes, ingested_at: str) -> int:
    """The sum of a source. Without its content hash: a wrong one only makes the next ingest do it again."""
    words = (namespace, uri, media_type, title, str(size_bytes), pages, ingested_at)
    return of("".join(f"{len(word)} {word}" for word in words).encode() + text, source)


def of_entry(key: object, value: object) -> int:
    """The sum of a pair: a key of the metadata, a term, a tombstone."""
    return of(f"{key}\0{value}".encode())
