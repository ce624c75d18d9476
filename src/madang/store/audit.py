"""What an audit of a collection tells, and what a repair did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.index import Audit
from madang.index.distance import as_vectors
from madang.index.graph import SmallWorld
from madang.store import derived
from madang.store.current import Current

_ENOUGH = 30                   # kept queries, to be measured with them


@dataclass(frozen=True, slots=True)
class CollectionAudit:
    """`index` is None where all search is exact. Nothing should be `unreachable`, `missing` or `damaged`."""

    records: int
    index: Audit | None
    waiting: int               # records that the index has not absorbed: compared exactly
    missing: int               # records that neither the index nor what waits for it has
    asked: int                 # kept queries that it was measured with; 0: given or made-up ones
    damaged: tuple[str, ...]   # files that are not what was written; they are made anew

    def __str__(self) -> str:
        lines = [f"{self.records:,} records, {self.waiting:,} of them compared exactly, {self.missing:,} missing"]
        lines += [f"damaged: {name}" for name in self.damaged]
        if self.index is None:
            return "\n".join([*lines, "all search is exact"])
        if self.asked:
            lines.append(f"measured with {self.asked:,} queries that were asked:")
        return "\n".join([*lines, str(self.index)])


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was wrong before; all 0 where there was nothing to do."""

    unreachable: int           # records that no link led to; they are linked now
    missing: int               # records that the index lacked; the index was built again
    rewritten: int             # damaged files beside `records.db` that were written again

    def __str__(self) -> str:
        if not (self.unreachable or self.missing or self.rewritten):
            return "nothing to repair"
        return (f"{self.unreachable:,} unreachable records linked, {self.missing:,} missing ones indexed again, "
                f"{self.rewritten:,} damaged files written again")


def measured(current: Current, directory: Path, queries: Any, kept: NDArray[np.float32] | None, k: int,
             ef_search: int | None, samples: int) -> CollectionAudit:
    """The index against exact search, with `queries` (q, dim), else with those that were `kept` if they are enough."""
    given = None if queries is None else as_vectors(np.asarray(queries, dtype=np.float32), current.dim, "queries")
    enough = given is None and kept is not None and len(kept) >= _ENOUGH
    asked = kept if enough and kept is not None else np.empty((0, current.dim), np.float32)
    with current.view() as view:
        live, index = view.all_live(), view.dense.index
        waiting, missing = view.dense.coverage(live)
    found = None
    if isinstance(index, SmallWorld) and len(index):
        found = index.audit(given if given is not None else asked if len(asked) else None, k, ef_search=ef_search,
                            samples=samples)
    return CollectionAudit(len(live), found, waiting, missing, len(asked), derived.damaged(directory))


def repaired(current: Current, directory: Path, settle: Callable[[], object]) -> Repaired:
    """Mend what `measured` tells; `settle` waits for the index."""
    settle()
    damaged = derived.damaged(directory)
    with current.view() as view:
        index = view.dense.index
        _, missing = view.dense.coverage(view.all_live())
    if missing:
        current.forget()
        settle()
    unreachable = index.repair() if isinstance(index, SmallWorld) and not missing else 0
    if damaged or missing or unreachable:
        current.save()
    return Repaired(unreachable, missing, len(damaged))
