"""What an audit of a collection tells, and what a repair did."""

from __future__ import annotations

from dataclasses import dataclass

from madang.index import Audit


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
