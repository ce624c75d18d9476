"""What the store accepts: names, ids, metadata, vectors. Every refusal names the record, the field and the value."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput
from madang.base.records import Metadata, Record, SparseVector, Vector
from madang.index import _kernel

MAX_ID_CHARS = 512
MAX_METADATA_BYTES = 40 * 1024
MAX_ATTRIBUTES_BYTES = 256 * 1024
MAX_TOP_K = 10_000
MAX_DIM = 20_000
_MOST_HALF = 65504.0
_AT_ONCE = 256          # vectors checked together, few enough to stay in the cache
_NAME = re.compile(r"[^\W_][\w.-]{0,62}", re.UNICODE)


def collection_name(name: str) -> str:
    """A collection is a directory: letters (any language), digits, `-`, `_`, `.`, at most 63 characters."""
    normal = unicodedata.normalize("NFC", name) if isinstance(name, str) else ""
    if not _NAME.fullmatch(normal) or normal.endswith("."):
        raise InvalidInput(f"collection name {name!r} is not allowed.",
                           remedy="Use letters, digits, '-', '_' and '.', starting with a letter or digit, "
                                  "at most 63 characters.")
    return normal


def namespace_name(namespace: str) -> str:
    if not isinstance(namespace, str) or len(namespace) > MAX_ID_CHARS or "\0" in namespace:
        raise InvalidInput(f"namespace must be text of at most {MAX_ID_CHARS} characters, not {namespace!r:.80}.")
    text(namespace, "namespace")
    return namespace


def record_id(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARS or "\0" in value:
        raise InvalidInput(f"record id must be text of 1 to {MAX_ID_CHARS} characters, not {value!r:.80}.")
    text(value, "record id")
    return value


def top_k(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= MAX_TOP_K:
        raise InvalidInput(f"top_k must be a whole number from 1 to {MAX_TOP_K:,}, not {value!r}.")
    return int(value)


def vector(values: Any, dim: int, where: str) -> Vector:
    """A float32 vector (dim,) from a list or array of finite numbers."""
    array = _array(values, dim, where)
    if not _kernel.all_finite(array):
        raise InvalidInput(f"{where} contains NaN or infinity.")
    return array


def _array(values: Any, dim: int, where: str) -> Vector:
    try:
        array = np.asarray(values, dtype=np.float32, order="C")
    except (TypeError, ValueError):
        raise InvalidInput(f"{where} must be {dim} numbers, not {values!r:.80}.") from None
    if array.ndim != 1 or array.shape[0] != dim:
        shape = array.shape[0] if array.ndim == 1 else array.shape
        raise InvalidInput(f"{where} has dimension {shape}, but the collection has {dim}.",
                           remedy="Use the embedder the collection was made with, or make a new collection.")
    return array


def lengths(ids: Sequence[str], vectors: NDArray[np.float32], metric: str, precision: str | None) -> None:
    """Refuse vectors (n, dim) that an index could not take: so long that scores overflow, or beyond half precision."""
    if metric == "cosine":     # directions only: they are made unit vectors
        return
    if precision == "float16":
        most = np.abs(vectors).max(axis=1)
        if (most > _MOST_HALF).any():
            place = int(np.argmax(most > _MOST_HALF))
            raise InvalidInput(f"record {ids[place]!r:.60}: values: {most[place]:g} is above float16's most, 65504.",
                               remedy='Scale the vectors down, or use an index with precision="float32".')
    try:
        _kernel.prepare(vectors, metric)
    except ValueError:
        longest = int(np.argmax(np.linalg.norm(vectors.astype(np.float64), axis=1)))
        raise InvalidInput(f"record {ids[longest]!r:.60}: values are so long that scores could overflow float32.",
                           remedy="Scale the vectors down.") from None


def sparse(value: Any, where: str) -> SparseVector | None:
    """A sparse vector from `SparseVector` or {"indices": [...], "values": [...]}; sorted by index."""
    if value is None:
        return None
    if isinstance(value, Mapping) and set(value) == {"indices", "values"}:
        value = SparseVector(value["indices"], value["values"])
    if not isinstance(value, SparseVector):
        raise InvalidInput(f"{where} must have 'indices' and 'values', not {value!r:.80}.")
    try:
        indices, values = np.asarray(value.indices), np.asarray(value.values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidInput(f"{where} must hold numbers.") from None
    if indices.ndim != 1 or indices.shape != values.shape:
        raise InvalidInput(f"{where}: indices and values must be lists of one length.")
    if len(indices) and (not np.issubdtype(indices.dtype, np.integer) or indices.min() < 0
                         or indices.max() >= 2**32 or len(np.unique(indices)) != len(indices)):
        raise InvalidInput(f"{where}: indices must be distinct whole numbers from 0 to 2**32 - 1.")
    if not np.isfinite(values).all():
        raise InvalidInput(f"{where} contains NaN or infinity.")
    order = np.argsort(indices)
    return SparseVector([int(i) for i in indices[order]], [float(v) for v in values[order]])


def metadata(value: Any, where: str) -> Metadata:
    """Flat metadata: strings, finite numbers, booleans, lists of strings; no null."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where} must be an object, not {value!r:.80}.")
    size = 2
    for key, item in value.items():
        if not isinstance(key, str) or not key or key[0] == "$":
            raise InvalidInput(f"{where}: key {key!r} must be text that does not start with '$'.")
        size += 3 + (len(key) if key.isascii() else _bytes(key, key, where))    # most text is ASCII: a byte a character
        if isinstance(item, str):
            size += 3 + (len(item) if item.isascii() else _bytes(item, key, where))
        elif isinstance(item, list) and all(isinstance(part, str) for part in item):
            size += sum([3 + (len(part) if part.isascii() else _bytes(part, key, where)) for part in item])
        elif (isinstance(item, int) and -2**63 <= item < 2**63) or (isinstance(item, float) and math.isfinite(item)):
            size += 8
        else:
            raise InvalidInput(f"{where}: value of {key!r} must be a string, a finite number, a boolean or a list of "
                               f"strings, not {item!r:.80}.", remedy="Leave the key out instead of null.")
    if size > MAX_METADATA_BYTES:
        raise InvalidInput(f"{where} takes about {size:,} bytes; at most {MAX_METADATA_BYTES:,} are allowed.",
                           remedy="Keep long text in 'document'.")
    return dict(value)


def attributes(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is kept with a collection: names and values of JSON."""
    try:
        written = json.dumps({} if value is None else dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(f"attributes must be an object of JSON values, not {value!r:.80}.") from None
    if len(written) > MAX_ATTRIBUTES_BYTES:
        raise InvalidInput(f"attributes take {len(written):,} bytes; at most {MAX_ATTRIBUTES_BYTES:,} are kept.")
    kept: dict[str, Any] = json.loads(written)
    return kept


def _bytes(part: str, key: str, where: str) -> int:
    """Of text that UTF-8 can hold."""
    return len((text(part, f"{where}: {key!r:.80}") or "").encode())


def text(value: Any, where: str) -> str | None:
    """Text that can be stored: no lone surrogates."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{where} must be text, not {value!r:.80}.")
    if value.isascii():
        return value
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{where} holds a lone surrogate at character {error.start}.") from None
    return value


def records(items: Iterable[Record | Mapping[str, Any]], dim: int) -> list[Record]:
    """Validated records; of several with one id in a call, the last wins, as in an upsert one by one."""
    if isinstance(items, Mapping | str) or not isinstance(items, Iterable):
        raise InvalidInput(f"records must be a list of records, not {items!r:.80}.")
    unique: dict[str, Record] = {}
    unseen: list[Record] = []
    for position, item in enumerate(items):
        record = _record(item, position, dim)
        unique.pop(record.id, None)
        unique[record.id] = record
        unseen.append(record)
        if len(unseen) == _AT_ONCE:
            _check_finite(unseen)
            unseen.clear()
    _check_finite(unseen)
    return list(unique.values())


def _check_finite(some: Sequence[Record]) -> None:
    """Of many vectors at once: NumPy's calls, one for each, would take longer than the look."""
    if not some:
        return
    finite = np.isfinite(np.stack([np.asarray(record.values) for record in some])).all(axis=1)
    if not finite.all():
        wrong = some[int(np.argmin(finite))]
        raise InvalidInput(f"record {wrong.id!r:.60}: values contains NaN or infinity.")


_FIELDS = ("id", "values", "sparse", "metadata", "document", "context")
_KNOWN = frozenset(_FIELDS)
_given = attrgetter(*_FIELDS)


def _record(item: Record | Mapping[str, Any], position: int, dim: int) -> Record:
    if isinstance(item, Record):
        identity, values, sparsely, about, document, context = _given(item)
    elif isinstance(item, Mapping):
        if not _KNOWN.issuperset(item):
            raise InvalidInput(f"record {position}: unknown field {min(str(key) for key in set(item) - _KNOWN)!r}.",
                               remedy=f"Known: {', '.join(_FIELDS)}.")
        identity, values, sparsely, about, document, context = map(item.get, _FIELDS)
    else:
        raise InvalidInput(f"record {position} must be a Record or a dict, not {item!r:.80}.")
    try:
        record_id(identity)
    except InvalidInput as error:
        raise InvalidInput(f"record {position}: {error.message}") from None
    if values is None:
        raise InvalidInput(f"record {identity!r:.60} has no values.", remedy=f"Give a vector of {dim} numbers.")
    try:
        return Record(identity, _array(values, dim, "values"), None if sparsely is None else sparse(sparsely, "sparse"),
                      metadata(about, "metadata"), text(document, "document"), text(context, "context"))
    except InvalidInput as error:       # only now is it worth the time to say which
        raise InvalidInput(f"record {identity!r:.60}: {error.message}", remedy=error.remedy) from None


def ids(values: Sequence[str]) -> list[str]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidInput(f"ids must be a list of ids, not {values!r:.80}.", remedy='For example ["a", "b"].')
    return [record_id(value) for value in values]
