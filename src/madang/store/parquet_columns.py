"""Between Arrow columns and records: vectors, sparse vectors, metadata. Refusals name column and row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput, MissingDependency
from madang.base.records import Metadata, SparseVector

VECTOR_NAMES = ("values", "vector", "embedding")
_FIELDS = {"id", "namespace", "metadata", "document", "context", "source_uri", "sparse_indices", "sparse_values",
           *VECTOR_NAMES}


def arrow() -> Any:
    """The library, imported when it is needed: the import alone takes longer than `import madang` may."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise MissingDependency("Reading and writing Parquet", extra="parquet") from error
    return pa


def vector_column(schema: Any) -> str:
    """The column that holds the vectors. Raises InvalidInput naming the columns there are."""
    pa = arrow()
    for name in VECTOR_NAMES:
        at = schema.get_field_index(name)
        if at >= 0 and _is_list(schema.field(at).type):
            inner = schema.field(at).type.value_type
            if pa.types.is_floating(inner) or pa.types.is_integer(inner):
                return name
    raise InvalidInput(f"there is no column of vectors; the columns are: {', '.join(schema.names)}.",
                       remedy=f"Name it {', '.join(VECTOR_NAMES[:-1])} or {VECTOR_NAMES[-1]}; it must hold lists of "
                              "numbers.")


def vectors(column: Any, dim: int | None, where: str, first: int) -> NDArray[np.float32]:
    """A column of lists as (n, dim). `dim` None: that of its first row. `first` numbers the rows for messages."""
    pa = arrow()
    if column.null_count:
        row = first + column.is_null().to_pylist().index(True)
        raise InvalidInput(f"row {row} has no {where}.", remedy="Leave out rows without a vector.")
    if pa.types.is_fixed_size_list(column.type):
        sizes = np.full(len(column), column.type.list_size)
    else:
        sizes = np.diff(column.offsets.to_numpy(zero_copy_only=False))
    dim = dim if dim is not None else int(sizes[0])
    wrong = np.flatnonzero(sizes != dim)
    if len(wrong):
        raise InvalidInput(f"row {first + wrong[0]}: {where} has dimension {sizes[wrong[0]]}, not {dim}.",
                           remedy="All vectors must have the dimension of the first one and of the collection.")
    numbers = column.flatten()
    if numbers.null_count:
        row = first + numbers.is_null().to_pylist().index(True) // dim
        raise InvalidInput(f"row {row}: {where} holds a null.", remedy="Vectors must be numbers throughout.")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinity, which the store refuses by name
        return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(len(column), dim)


def sparse(indices: Any, values: Any) -> list[SparseVector | None]:
    """Two columns of lists as sparse vectors; null where there is none."""
    return [None if i is None or v is None else SparseVector(i, v)
            for i, v in zip(indices.to_pylist(), values.to_pylist(), strict=True)]


def texts(column: Any, where: str, first: int) -> list[str | None]:
    """A column of text, of whole numbers written as text, or of nothing at all."""
    pa, kind = arrow(), column.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    plain = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (plain or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise InvalidInput(f"column {where!r} holds {kind}, not text.", remedy="Convert it to text.")
    try:
        found: list[Any] = column.to_pylist()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"column {where!r} holds bytes that are not UTF-8, in the rows from {first} on.",
                           remedy="Write the file again with text in UTF-8.") from error
    return found if plain else [None if value is None else str(value) for value in found]


def stored_metadata(column: Any, first: int) -> list[Metadata]:
    """A column `metadata`: JSON text, or a struct."""
    pa = arrow()
    if pa.types.is_struct(column.type):
        found = column.to_pylist()
        return [_without_null(value, "metadata", first + n) for n, value in enumerate(found)]
    return [_parsed(text, first + n) for n, text in enumerate(texts(column, "metadata", first))]


def plain_metadata(batch: Any, skip: Sequence[str], first: int) -> list[Metadata]:
    """Every further column as metadata; null and NaN mean that the record does not have it."""
    columns = [(name, _plain(name, first), batch.column(name).to_pylist()) for name in batch.schema.names
               if name not in _FIELDS and name not in skip and not name.startswith("__index_level_")]
    found: list[Metadata] = [{} for _ in range(batch.num_rows)]
    for name, convert, values in columns:
        for row, value in enumerate(values):
            if value is not None and not (isinstance(value, float) and math.isnan(value)):
                found[row][name] = convert(value, row)
    return found


def _plain(name: str, first: int) -> Callable[[Any, int], Any]:
    def convert(value: Any, row: int) -> Any:
        if isinstance(value, str | bool | int | float):
            return value
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return value
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        if isinstance(value, Decimal):
            return float(value)
        raise InvalidInput(f"row {first + row}: column {name!r} holds {value!r:.60}, which metadata cannot.",
                           remedy=f"Leave it out: skip={name!r}. Metadata is text, numbers, booleans, lists of text.")
    return convert


def _parsed(text: str | None, row: int) -> Metadata:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidInput(f"row {row}: metadata is not a JSON object: {text!r:.60}.",
                           remedy='For example {"year": 2024}.')
    return value


def _without_null(value: Any, where: str, row: int) -> Metadata:
    convert = _plain(where, row)
    return {} if value is None else {key: convert(item, 0) for key, item in value.items() if item is not None}


def _is_list(kind: Any) -> bool:
    types = arrow().types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
