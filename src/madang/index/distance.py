"""What an index accepts: every argument of the public calls is checked here, with the remedy in the message.

The metrics, as scores that are higher for better matches (q: query, x: stored vector):

- cosine: q.x / (|q| |x|), from -1 to 1 up to rounding; 0 where either vector is zero, since it has no direction;
- dot: q.x;
- euclidean: -|q - x|^2, the negative squared distance, which orders like the distance and needs no root.
"""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput
from madang.index.protocol import METRICS, Metric, Rows, Vectors

Mask: TypeAlias = NDArray[np.bool_]


def check_metric(metric: Any) -> Metric:
    """The metric, if it is one of `METRICS`."""
    for known in METRICS:
        if isinstance(metric, str) and metric == known:
            return known
    raise InvalidInput(f"metric {metric!r} is unknown.", remedy=f"Choose one of {', '.join(METRICS)}.")


def check_count(value: Any, field: str, least: int, meaning: str) -> int:
    """A whole number of at least `least` (and below 2^31, the kernel's limit)."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidInput(f"{field} must be a whole number, got {value!r}.", remedy=f"Pass {meaning}.") from None
    if isinstance(value, bool) or not least <= number < 2**31:
        raise InvalidInput(f"{field} must be from {least} to {2**31 - 1}, got {value!r}.",
                           remedy=f"Pass {meaning}.")
    return number


def as_vectors(value: Any, dim: int | None, field: str) -> Vectors:
    """float32 vectors (n, dim) as a C-contiguous array, copied only where they are not; any width where `dim` is None.

    The values themselves are checked by the kernel.
    """
    array = as_array(value, field)
    if array.dtype != np.float32 or not array.dtype.isnative:
        raise InvalidInput(f"{field} must have dtype float32, got {array.dtype}.",
                           remedy="Convert with .astype(np.float32).")
    if array.ndim != 2:
        remedy = f"Pass {field}[None, :] for a single one." if array.ndim == 1 else "Use .reshape(-1, dim)."
        raise InvalidInput(f"{field} must have the shape (n, dim), got {array.shape}.", remedy=remedy)
    if array.shape[1] < 1 or dim not in (None, array.shape[1]):
        wanted = "at least 1" if dim is None else dim
        raise InvalidInput(f"{field} must have dimension {wanted}, got {array.shape[1]}.",
                           remedy="Use the model that the index was made for, or another index.")
    return np.ascontiguousarray(array)


def as_rows(value: Any, field: str) -> Rows:
    """Row numbers as a one-dimensional int64 array; any integers that fit, and any empty list."""
    array = as_array(value, field)
    if array.ndim != 1:
        raise InvalidInput(f"{field} must be one-dimensional, got the shape {array.shape}.",
                           remedy="Pass a list of row numbers.")
    if array.size and not (array.dtype.kind in "iu" and np.can_cast(array.dtype, np.int64)):
        raise InvalidInput(f"{field} must be int64 row numbers, got {array.dtype}.",
                           remedy="Convert with .astype(np.int64).")
    return np.ascontiguousarray(array, dtype=np.int64)


def as_update(rows: Any, vectors: Any, dim: int | None) -> tuple[Rows, Vectors]:
    """Rows, each once, and as many new vectors for them; whether the rows are live is for the index to say."""
    numbers, new = as_rows(rows, "rows"), as_vectors(vectors, dim, "vectors")
    if len(numbers) != len(new):
        raise InvalidInput(f"rows and vectors must be as many, got {len(numbers)} and {len(new)}.")
    if len(np.unique(numbers)) != len(numbers):
        raise InvalidInput("rows contains a row twice.", remedy="Give each row one new vector.")
    return numbers, new


def as_allow(value: Any, rows_ever: int) -> tuple[Rows | None, Mask | None]:
    """Row numbers, strictly ascending within [0, rows_ever), or a mask with one entry per row ever added."""
    array = as_array(value, "allow")
    if array.dtype == np.bool_:
        if array.shape != (rows_ever,):
            raise InvalidInput(f"allow must be a mask of the shape ({rows_ever},), one entry per row ever added, "
                               f"got {array.shape}.", remedy="Pass row numbers where rows are added meanwhile.")
        return None, np.ascontiguousarray(array)
    rows = as_rows(array, "allow")
    if rows.size and not bool(np.all(rows[1:] > rows[:-1])):
        rows = np.unique(rows)
    for row in (rows[:1], rows[-1:]):
        if row.size and not 0 <= row[0] < rows_ever:
            raise InvalidInput(f"allow contains row {row[0]}; the rows are 0 to {rows_ever - 1}.",
                               remedy="Pass rows that `add` returned.")
    return rows, None


def as_array(value: Any, field: str) -> np.ndarray[Any, Any]:
    """What NumPy makes of the value."""
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{field} is no array: {error}.", remedy="Pass a NumPy array.") from None
