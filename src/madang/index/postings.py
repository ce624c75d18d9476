"""What the lexical and the sparse index share to their callers: rows in, rows out, files, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from madang.base.errors import Corrupt, InvalidInput
from madang.index import container
from madang.index.protocol import Allow, Rows
from madang.index.segments import Keys, State, Weights


class Postings:
    """Rows with weights of integer keys, in memory or mapped from a file.

    Rows are int64 >= 0, assigned by the caller; a row that was removed may be added again. Whatever is refused raises
    `madang.base.errors.InvalidInput`, which is a `ValueError`, and leaves the index as it was. The state is replaced
    as a whole: searches may run in any number of threads beside one writer, and each sees one consistent state.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        self._state = State((), 0, 0.0)

    def __len__(self) -> int:
        """The number of live rows."""
        return self._state.live_count

    def remove(self, rows: ArrayLike) -> int:
        """Remove rows (n,); unknown and already removed ones are ignored. Returns how many were live."""
        before = self._state.live_count
        self._state = self._state.removed(integers("rows", rows))
        return before - self._state.live_count

    def settings(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {}

    def to_arrays(self) -> tuple[dict[str, Any], container.Arrays]:
        """Settings (JSON) and one-dimensional arrays that `from_arrays` takes; views of the index, not copies."""
        state = self._state
        return {**self.settings(), "segments": len(state.segments)}, state.to_arrays()

    @classmethod
    def from_arrays(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The index of which these are the arrays. They are used as they are and never written to.

        Raises `Corrupt` for settings and arrays that `to_arrays` does not give.
        """
        own = {name: value for name, value in settings.items() if name != "segments"}
        if own.keys() != cls().settings().keys() or any(type(value) not in (int, float) for value in own.values()):
            raise Corrupt(f"a saved {cls.kind} index has the settings {own!r:.200}.", remedy="Build it again.")
        try:
            index = cls(**own)
        except InvalidInput as error:
            raise Corrupt(f"a saved {cls.kind} index has impossible settings: {error}",
                          remedy="Build it again.") from None
        index._state = State.from_arrays(settings.get("segments"), arrays)
        return index

    def save(self, path: str | Path) -> None:
        """Write a checksummed file; either all of it replaces what was there, or nothing does."""
        container.write(path, self.kind, self.version, *self.to_arrays())

    @classmethod
    def load(cls, path: str | Path, mmap: bool = True) -> Self:
        """Read what `save` wrote, by default mapped. Raises `NotFound`, and `Corrupt` for a damaged file."""
        return cls.from_arrays(*container.read(path, cls.kind, cls.version, mapped=mmap))


class Documents(NamedTuple):
    """A checked CSR matrix."""

    rows: Rows  # (n,)
    indptr: NDArray[np.int64]  # (n + 1,)
    keys: Keys  # (nnz,)
    weights: Weights  # (nnz,)

    def sums(self, values: Weights) -> NDArray[np.float64]:
        """(n,): for each document the sum of its `values` (nnz,)."""
        owners = np.repeat(np.arange(len(self.rows)), np.diff(self.indptr))
        return np.bincount(owners, weights=values, minlength=len(self.rows)).astype(np.float64, copy=False)


def checked_documents(rows: ArrayLike, indptr: ArrayLike, keys: tuple[str, ArrayLike],
                      weights: tuple[str, ArrayLike]) -> Documents:
    """The documents of an `add`; keys and weights come with their names, for the messages."""
    rows_, indptr_, keys_ = integers("rows", rows), integers("indptr", indptr), integers(*keys)
    if len(indptr_) != len(rows_) + 1:
        raise InvalidInput(f"indptr has {len(indptr_)} entries for {len(rows_)} rows.",
                           remedy="Give one more than there are rows.")
    if indptr_[0] != 0 or indptr_[-1] != len(keys_) or (np.diff(indptr_) < 0).any():
        raise InvalidInput(f"indptr does not ascend from 0 to {len(keys_)}, the number of {keys[0]}.",
                           remedy="Give the CSR row pointers.")
    return Documents(rows_, indptr_, keys_, floats(*weights, length=len(keys_), each=keys[0]))


def distinct(keys: Keys, weights: Weights) -> tuple[Keys, NDArray[np.float64]]:
    """The keys of a query once each, ascending, with the sum of their weights."""
    once, inverse = np.unique(keys, return_inverse=True)
    return once, np.bincount(inverse, weights=weights, minlength=len(once)).astype(np.float64)


def check_k(k: object) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InvalidInput(f"k is {k!r}.", remedy="Give a whole number of at least 1.")


def checked_allow(allow: Allow | None) -> Allow | None:
    """Row numbers or a mask by row."""
    if allow is None or (allow.dtype == np.bool_ and allow.ndim == 1):
        return allow
    return integers("allow", allow)


def integers(name: str, values: ArrayLike, limit: int = 2**63 - 1) -> NDArray[np.int64]:
    """(n,) integers from 0 to `limit`."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidInput(f"{name} has shape {array.shape} and type {array.dtype}.",
                           remedy="Give a one-dimensional array of integers.")
    result = array.astype(np.int64, copy=False)
    wrong = (result < 0) | (result > limit)
    if wrong.any():
        bound = "2**63 - 1" if limit == 2**63 - 1 else str(limit)
        raise InvalidInput(f"{name} holds {array[int(np.argmax(wrong))]}.", remedy=f"Give integers from 0 to {bound}.")
    return result


def floats(name: str, values: ArrayLike, length: int, each: str) -> Weights:
    """(length,) finite float32 numbers."""
    array = np.asarray(values)
    if array.shape != (length,) or (array.size and array.dtype.kind not in "fiu"):
        raise InvalidInput(f"{name} has shape {array.shape} and type {array.dtype}.",
                           remedy=f"Give {length} numbers, one for each of {each}.")
    with np.errstate(over="ignore"):
        result = array.astype(np.float32, copy=False)
    if not np.isfinite(result).all():
        raise InvalidInput(f"{name} holds a value not finite as float32.", remedy="Give finite numbers.")
    return result
