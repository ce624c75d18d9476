"""OpenAI's files and vector stores: what a caller asks and is answered.

Source: https://platform.openai.com/docs/api-reference (files, vector-stores, vector-stores-files,
vector-stores-file-batches).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from madang.wire.openai_fields import Fields, Wrong

Attributes: TypeAlias = dict[str, str | float | bool]
PREFIX = "attributes."             # of a file's attributes among the metadata of its chunks
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
STATUSES = ("in_progress", "completed", "failed", "cancelled")
MOST_FILES = 500                   # of one batch
_MOST_ATTRIBUTES, _MOST_KEY, _MOST_VALUE, _MOST_NAME = 16, 64, 512, 256
_MOST_NESTED = 10
_OPERATORS = {"eq": "$eq", "ne": "$ne", "gt": "$gt", "gte": "$gte", "lt": "$lt", "lte": "$lte", "in": "$in",
              "nin": "$nin"}
_CHARS_A_TOKEN = 4                 # of English, by OpenAI's rule of thumb; our chunks are measured in characters


@dataclass(frozen=True, slots=True)
class File:
    """A file that was sent."""

    id: str
    name: str
    purpose: str
    size_bytes: int
    created_at: int
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A file within a vector store. `error` is code and message, "" for none; `batch` that it came with."""

    store: str
    file: str
    created_at: int
    status: str
    error: tuple[str, str]
    attributes: Attributes
    chunk_chars: int
    size_bytes: int
    batch: str = ""


@dataclass(frozen=True, slots=True)
class Adding:
    """A file that shall be added to a store. `chunk_chars` None: the settings'."""

    file: str
    attributes: Attributes
    chunk_chars: int | None


# --- asked ---


def decode_metadata(fields: Fields, key: str = "metadata") -> dict[str, str]:
    """At most 16 texts of at most 512 characters, under keys of at most 64."""
    found = fields.inner(key).value
    _check_size(fields, key, found)
    if not all(isinstance(value, str) and len(value) <= _MOST_VALUE for value in found.values()):
        raise fields.wrong(key, f"texts of at most {_MOST_VALUE} characters")
    return dict(found)


def decode_attributes(fields: Fields, key: str = "attributes") -> Attributes:
    """At most 16 texts, numbers or booleans."""
    found = fields.inner(key).value
    _check_size(fields, key, found)
    for value in found.values():
        if not isinstance(value, str | int | float | bool) or (isinstance(value, str) and len(value) > _MOST_VALUE):
            raise fields.wrong(key, f"texts of at most {_MOST_VALUE} characters, numbers or booleans")
        if isinstance(value, float) and value - value != 0:
            raise fields.wrong(key, "finite numbers")
    return dict(found)


def _check_size(fields: Fields, key: str, found: Mapping[str, Any]) -> None:
    if len(found) > _MOST_ATTRIBUTES or any(not name or len(name) > _MOST_KEY for name in found):
        raise fields.wrong(key, f"at most {_MOST_ATTRIBUTES} keys of 1 to {_MOST_KEY} characters")


def decode_name(fields: Fields) -> str:
    """What a store is called; "" for nothing."""
    return fields.text("name", "", most=_MOST_NAME)


def decode_chunking(fields: Fields) -> int | None:
    """Characters of a chunk at most; None for the settings'. An overlap is taken and not needed: chunks do not."""
    chunking = fields.inner("chunking_strategy")
    kind = chunking.choice("type", ("auto", "static", "other"), "auto")
    if kind != "static":
        return None
    static = chunking.inner("static")
    tokens = static.whole("max_chunk_size_tokens", 100, 4096)
    if tokens is None:
        raise static.missing("max_chunk_size_tokens")
    overlap = static.whole("chunk_overlap_tokens", 0, 4096) or 0
    if overlap > tokens / 2:
        raise static.wrong("chunk_overlap_tokens", "at most half of max_chunk_size_tokens")
    return tokens * _CHARS_A_TOKEN


def decode_days(fields: Fields) -> int | None:
    """Days after which a store that nobody uses expires; None: never."""
    if not fields.has("expires_after"):
        return None
    inner = fields.inner("expires_after")
    inner.choice("anchor", ("last_active_at",))
    days = inner.whole("days", 1, 365)
    if days is None:
        raise inner.missing("days")
    return days


def decode_adding(fields: Fields) -> Adding:
    """One file to add."""
    return Adding(fields.text("file_id"), decode_attributes(fields), decode_chunking(fields))


def decode_batch(fields: Fields) -> list[Adding]:
    """Several: `file_ids` that share attributes and chunking, or `files` that each have their own."""
    if fields.has("files"):
        found = [decode_adding(each) for each in fields.objects("files", most=MOST_FILES)]
    else:
        attributes, chunking = decode_attributes(fields), decode_chunking(fields)
        found = [Adding(file, attributes, chunking) for file in fields.texts("file_ids", most=MOST_FILES)]
    if not found:
        raise fields.missing("file_ids")
    return found


def decode_filter(fields: Fields, depth: int = 0) -> dict[str, Any]:
    """A filter over attributes as one over the metadata of chunks."""
    kind = fields.choice("type", (*_OPERATORS, "and", "or"))
    if depth > _MOST_NESTED:
        raise fields.wrong("type", f"a filter at most {_MOST_NESTED} levels deep")
    if kind in ("and", "or"):
        inner = [decode_filter(each, depth + 1) for each in fields.objects("filters", most=100)]
        if not inner:
            raise fields.missing("filters")
        return {f"${kind}": inner}
    value = fields.value.get("value")
    if value is None:
        raise fields.missing("value")
    if (kind in ("in", "nin")) != isinstance(value, list) or isinstance(value, dict):
        raise fields.wrong("value", "an array" if kind in ("in", "nin") else "a text, a number or a boolean")
    return {PREFIX + fields.text("key"): {_OPERATORS[kind]: value}}


# --- answered ---


def encode_file(file: File) -> dict[str, Any]:
    """A file."""
    return {"id": file.id, "object": "file", "bytes": file.size_bytes, "created_at": file.created_at,
            "expires_at": file.expires_at, "filename": file.name, "purpose": file.purpose, "status": "processed",
            "status_details": None}


def counts(files: Iterable[StoreFile]) -> dict[str, int]:
    """How many files have which status."""
    found = Counter(file.status for file in files)
    return {**{status: found[status] for status in STATUSES}, "total": found.total()}


def encode_store(id_: str, kept: Mapping[str, Any], files: Sequence[StoreFile], now: float) -> dict[str, Any]:
    """A vector store, from what is kept of it and the files in it."""
    days, last = kept.get("days"), int(kept.get("last_active_at") or kept["created_at"])
    expires_at = last + days * 86_400 if days else None
    working = any(file.status == "in_progress" for file in files)
    status = "expired" if expires_at and expires_at <= now else "in_progress" if working else "completed"
    return {"id": id_, "object": "vector_store", "created_at": kept["created_at"], "name": kept["name"],
            "description": kept.get("description"), "usage_bytes": sum(file.size_bytes for file in files),
            "file_counts": counts(files), "status": status, "last_active_at": last, "metadata": kept["metadata"],
            "expires_after": {"anchor": "last_active_at", "days": days} if days else None, "expires_at": expires_at}


def encode_store_file(file: StoreFile) -> dict[str, Any]:
    """A file within a store."""
    code, message = file.error
    tokens = max(100, min(4096, file.chunk_chars // _CHARS_A_TOKEN))
    return {"id": file.file, "object": "vector_store.file", "created_at": file.created_at, "status": file.status,
            "usage_bytes": file.size_bytes, "vector_store_id": file.store, "attributes": file.attributes,
            "last_error": {"code": code, "message": message} if code else None,
            "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": tokens,
                                                               "chunk_overlap_tokens": 0}}}


def encode_batch(id_: str, store: str, files: Sequence[StoreFile]) -> dict[str, Any]:
    """A batch of files."""
    told = counts(files)
    status = ("in_progress" if told["in_progress"] else "cancelled" if told["cancelled"] else
              "failed" if told["failed"] == told["total"] else "completed")
    return {"id": id_, "object": "vector_store.files_batch", "vector_store_id": store, "status": status,
            "created_at": min(file.created_at for file in files), "file_counts": told}


def encode_found(queries: Sequence[str], found: Sequence[tuple[File, Attributes, float, str]]) -> dict[str, Any]:
    """What a search found: the file, its attributes, a score from 0 to 1, and the text of the chunk."""
    data = [{"file_id": file.id, "filename": file.name, "score": score, "attributes": attributes,
             "content": [{"type": "text", "text": text}]} for file, attributes, score, text in found]
    return {"object": "vector_store.search_results.page", "search_query": list(queries), "data": data,
            "has_more": False, "next_page": None}


def page(items: Sequence[dict[str, Any]], parameters: Fields, most: int = 100) -> dict[str, Any]:
    """A page of things that are sorted by time, oldest first: `limit`, `order`, `after`, `before`."""
    limit = parameters.whole("limit", 1, most) or 20
    found = list(items)
    if parameters.choice("order", ("asc", "desc"), "desc") == "desc":
        found.reverse()
    ids = [item["id"] for item in found]
    for key in ("after", "before"):
        mark = parameters.text(key, "")
        if not mark:
            continue
        if mark not in ids:
            raise Wrong(f"Invalid '{key}': there is no {mark!r:.80} in this list.", param=key, code="invalid_value")
        found = found[ids.index(mark) + 1:] if key == "after" else found[:ids.index(mark)]
        ids = [item["id"] for item in found]
    shown = found[:limit]
    return {"object": "list", "data": shown, "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None, "has_more": len(found) > limit}
