"""Records from one store to another: every namespace, checked on arrival, and again from where it stopped.

A copy reads pages of ids, fetches them, writes what the target lacks or holds differently, and reads it back. Nothing
is remembered between two runs: what arrived is found by comparing, so a copy that was cut off is simply started again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from madang.base.errors import Conflict, Corrupt, InvalidInput, Unsupported
from madang.base.records import Metadata, Record
from madang.store import validate
from madang.store.backends.capabilities import Capabilities
from madang.store.protocol import CollectionProtocol

Progress: TypeAlias = Callable[[int, int], None]     # records done, and of how many

_EVERYTHING = Capabilities(text=True, sparse=True, sources=True, target_recall=True)
_LOSSES = ("records", "documents", "sparse vectors", "sources")
_PATIENCE_S = 120.0              # for a service that shows what was written a little later


@dataclass(frozen=True, slots=True)
class Losses:
    """What a target cannot hold: how many of each, and what it says of the first."""

    counts: Mapping[str, int] = field(default_factory=dict)
    example: str = ""

    def __bool__(self) -> bool:
        return any(self.counts.values())

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {what if count > 1 else what.removesuffix('s')}"
                         for what, count in self.counts.items() if count)


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did. `verified` were read back and compared, the skipped ones among them."""

    copied: int                    # records written
    skipped: int                   # found in the target, equal
    verified: int
    losses: Losses
    namespaces: Mapping[str, int]  # records of the source, without those left out
    extra: int                     # records that only the target has, in these namespaces
    seconds: float


def copy(source: CollectionProtocol, target: CollectionProtocol, *, batch: int = 500, progress: Progress | None = None,
         resume: bool = True, lossy: bool = False, sample: int | None = None) -> Copied:
    """Copy every record of every namespace, and verify that it arrived.

    Args:
        batch: records read and written at a time. progress: called after each batch.
        resume: compare with the target first, and write only what differs. Without it everything is written.
        lossy: leave out what the target cannot hold, instead of refusing before anything is written.
        sample: how many records of each batch are read back and compared; all of them if None.

    Raises:
        Unsupported: the target cannot hold all of it and `lossy` is False. Conflict: dimension or metric differ.
        Corrupt: something came back different from what was written, or did not come back.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= validate.MAX_TOP_K:
        raise InvalidInput(f"batch must be a whole number from 1 to {validate.MAX_TOP_K:,}, not {batch!r}.")
    started = time.monotonic()
    counts = _compatible(source, target)
    losses = survey(source, target, batch=batch)
    if losses and not lossy:
        raise Unsupported(f"{target.name!r} cannot hold all of {source.name!r}: {losses} would be left out"
                          f"{f' ({losses.example})' if losses.example else ''}.",
                          remedy="Pass lossy=True (--lossy) to copy the rest.")
    total, done = sum(counts.values()), 0
    copied = skipped = verified = 0
    arrived: dict[str, int] = {}
    for space in counts:
        arrived[space] = 0
        for records in _pages(source, space, batch):
            wanted = [record for record in (_fitted(target, each, space)[0] for each in records) if record is not None]
            there = target.fetch([record.id for record in wanted], space) if resume and wanted else {}
            missing = [record for record in wanted
                       if record.id not in there or difference(record, there[record.id], target) is not None]
            if missing:
                target.upsert(missing, space)
            copied, skipped = copied + len(missing), skipped + len(wanted) - len(missing)
            verified += len(wanted) - len(missing) + _verify(target, missing if sample is None else missing[:sample],
                                                             space)
            arrived[space] += len(wanted)
            done += len(records)
            if progress is not None:
                progress(done, max(total, done))
    arrived = {space: count for space, count in arrived.items() if count}
    return Copied(copied, skipped, verified, losses, arrived, _extra(target, arrived), time.monotonic() - started)


def survey(source: CollectionProtocol, target: CollectionProtocol, *, batch: int = 500) -> Losses:
    """What the target cannot hold of the source. Reads the source once, unless the target holds everything."""
    capabilities = _capabilities(target)
    stats = source.stats()
    # Which records were cut from which document is not part of a record, so no target receives it.
    counts: Counter[str] = Counter(sources=stats.sources)
    example = ""
    if capabilities is not _EVERYTHING:
        for space in stats.namespaces:
            for records in _pages(source, space, batch):
                for record in records:
                    _, lost, said = _fitted(target, record, space)
                    counts.update(lost)
                    example = example or said.rstrip(".")
    return Losses({what: counts[what] for what in _LOSSES}, example)


def difference(written: Record, read: Record, target: CollectionProtocol) -> str | None:
    """The first field in which two records differ, or None. Vectors may be rounded where the target says they are."""
    exact = _capabilities(target).exact_values
    if not _close(written.values, read.values, exact):
        return "values"
    mine, theirs = written.sparse, read.sparse
    if (mine is None) is not (theirs is None):
        return "sparse"
    if mine is not None and theirs is not None and (list(mine.indices) != list(theirs.indices)
                                                    or not _close(mine.values, theirs.values, exact)):
        return "sparse"
    if _typed(written.metadata) != _typed(read.metadata):
        return "metadata"
    return next((name for name in ("document", "context") if getattr(written, name) != getattr(read, name)), None)


def _close(one: object, other: object, exact: bool) -> bool:
    mine, theirs = (np.asarray(() if each is None else each, dtype=np.float32) for each in (one, other))
    if mine.shape != theirs.shape:
        return False
    return bool(np.array_equal(mine, theirs) if exact else np.allclose(mine, theirs, rtol=1e-5, atol=1e-6))


def _typed(metadata: Metadata) -> dict[str, tuple[bool, object]]:
    """For a comparison in which 1 equals 1.0, as in filters, and true does not."""
    return {name: (isinstance(value, bool), value) for name, value in metadata.items()}


def _compatible(source: CollectionProtocol, target: CollectionProtocol) -> Mapping[str, int]:
    """The source's records by namespace."""
    mine, theirs = source.stats(), target.stats()
    for what in ("dim", "metric"):
        if getattr(mine, what) != getattr(theirs, what):
            raise Conflict(f"{source.name!r} has {what} {getattr(mine, what)}, {target.name!r} has "
                           f"{getattr(theirs, what)}.", remedy="Copy into a collection with the same.")
    return mine.namespaces


def _pages(store: CollectionProtocol, namespace: str, batch: int) -> Iterator[list[Record]]:
    """All records of a namespace, a page at a time."""
    cursor: str | None = None
    while True:
        page = store.list_ids(limit=batch, cursor=cursor, namespace=namespace)
        if page.ids:
            yield list(store.fetch(page.ids, namespace).values())
        if page.cursor is None:
            return
        cursor = page.cursor


def _capabilities(store: CollectionProtocol) -> Capabilities:
    """What a store declares; ours declares nothing, since it holds everything."""
    declared = getattr(store, "capabilities", None)
    return declared if isinstance(declared, Capabilities) else _EVERYTHING


def _fitted(target: CollectionProtocol, record: Record, namespace: str) -> tuple[Record | None, list[str], str]:
    """The record as far as the target can hold it, None if not at all; what is lost, and what the target says."""
    capabilities = _capabilities(target)
    check = getattr(target, "check_record", None)
    if namespace and not capabilities.namespaces:
        return None, ["records"], f"namespace {namespace!r:.60}: {target.name!r} has no namespaces"
    said = ""
    for left_out in ((), ("sparse",), ("document", "context"), ("sparse", "document", "context")):
        if left_out and all(getattr(record, name) is None for name in left_out):
            continue
        reduced = replace(record)
        for name in left_out:
            setattr(reduced, name, None)
        try:
            if check is not None:
                check(reduced)
        except Unsupported as error:
            said = said or error.message
            continue
        lost = ["sparse vectors"] if "sparse" in left_out and record.sparse is not None else []
        lost += ["documents"] if "document" in left_out else []
        return reduced, lost, said
    return None, ["records"], said


def _verify(target: CollectionProtocol, written: Sequence[Record], namespace: str) -> int:
    """Read records back and compare; how many. Patient with a service that shows its writes later."""
    patience = 0.0 if _capabilities(target).read_your_writes else _PATIENCE_S
    for wait in _waits(patience):
        read = target.fetch([record.id for record in written], namespace) if written else {}
        wrong = next(((record.id, difference(record, read[record.id], target) if record.id in read else "all of it")
                      for record in written
                      if record.id not in read or difference(record, read[record.id], target) is not None), None)
        if wrong is None:
            return len(written)
        if wait:
            time.sleep(wait)
    assert wrong is not None
    identity, what = wrong
    raise Corrupt(f"record {identity!r:.80} in namespace {namespace!r:.80} came back from {target.name!r} "
                  f"different from what was written: {what}.",
                  remedy="Look whether another program writes there, and copy again.")


def _extra(target: CollectionProtocol, arrived: Mapping[str, int]) -> int:
    """Records in the target beyond those copied. Fewer than those is an error, though each was read back."""
    patience = 0.0 if _capabilities(target).read_your_writes else _PATIENCE_S
    for wait in _waits(patience):
        counts = target.stats().namespaces
        short = {space: count - counts.get(space, 0) for space, count in arrived.items()
                 if counts.get(space, 0) < count}
        if not short:
            return sum(counts[space] - count for space, count in arrived.items())
        if wait:
            time.sleep(wait)
    space, missing = next(iter(short.items()))
    raise Corrupt(f"{target.name!r} has {missing:,} records too few in namespace {space!r:.80}.",
                  remedy="Look whether another program deletes there, and copy again.")


def _waits(patience_s: float) -> Iterator[float]:
    """Growing waits that sum up to the patience, then 0: how long to wait after each look that found it wanting."""
    wait, spent = 0.25, 0.0
    while spent + wait <= patience_s:
        yield wait
        spent, wait = spent + wait, min(wait * 2, 8.0)
    yield 0.0
