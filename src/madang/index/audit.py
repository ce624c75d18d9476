"""How well an index does its work, measured against exact search on its own data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from madang.base.errors import InvalidInput
from madang.base.stats import bootstrap_mean
from madang.index.calibrate import Tunable, recalls, stand_ins
from madang.index.protocol import Rows, Vectors


class Auditable(Tunable, Protocol):
    """What can be audited."""

    def reachable(self) -> int: ...

    def live_rows(self) -> Rows: ...


@dataclass(frozen=True, slots=True)
class Bucket:
    """Searches under filters that allow this share of the rows."""

    selectivity: float
    allowed: int           # rows
    queries: int
    recall: float          # mean of recall@k
    low: float             # of its 95 % interval, by bootstrap over the queries
    high: float
    median_us: float       # of a single search
    evaluations: float     # distances computed per search, mean
    scanned: float         # the share of searches that compared all allowed rows instead of following links


@dataclass(frozen=True, slots=True)
class Audit:
    """The result: `unreachable` should be 0."""

    live: int
    unreachable: int
    k: int
    ef_search: int
    real_queries: bool     # False: stored vectors, moved a little, stood in for them
    buckets: tuple[Bucket, ...]

    def __str__(self) -> str:
        lines = [f"{self.live:,} vectors, {self.unreachable:,} of them unreachable; recall@{self.k} at "
                 f"ef_search={self.ef_search} on {'given' if self.real_queries else 'made-up'} queries:"]
        lines += [f"  {bucket.selectivity:>7.1%} allowed ({bucket.allowed:,}): {bucket.recall:.4f} "
                  f"[{bucket.low:.4f}, {bucket.high:.4f}], {bucket.median_us:,.0f} us, "
                  f"{bucket.evaluations:,.0f} comparisons{', scanned' if bucket.scanned >= 0.5 else ''}"
                  for bucket in self.buckets]
        return "\n".join(lines)


def audit(index: Auditable, queries: Vectors | None, k: int, ef: int, selectivities: Sequence[float],
          samples: int, seed: int = 0) -> Audit:
    """Measure recall@k with its interval under random filters of each selectivity, and count what is unreachable."""
    for share in selectivities:
        if not 0 < share <= 1:
            raise InvalidInput(f"selectivities must be above 0 and at most 1, got {share!r}.")
    asked = stand_ins(index, samples, seed) if queries is None else np.asarray(queries)[:samples]
    live = index.live_rows()
    buckets = []
    if len(live) and len(asked):
        generator = np.random.default_rng(seed)
        for share in sorted(selectivities, reverse=True):
            count = max(1, round(share * len(live)))
            allow = None if share == 1 else np.sort(generator.choice(live, count, replace=False))
            buckets.append(_bucket(index, asked, k, ef, share, count, allow))
    return Audit(len(live), len(live) - index.reachable(), k, ef, queries is not None, tuple(buckets))


def _bucket(index: Auditable, queries: Vectors, k: int, ef: int, share: float, count: int,
            allow: Rows | None) -> Bucket:
    truth, _, _, _ = index.run(queries, k, ef, allow=allow, threads=0, plan="exact")
    found, seconds, evaluations, scanned = [], [], 0, 0
    for i in range(len(queries)):
        start = time.perf_counter()
        rows, _, cost, scan = index.run(queries[i:i + 1], k, ef, allow=allow)
        seconds.append(time.perf_counter() - start)
        found.append(rows[0])
        evaluations += cost
        scanned += scan
    mine = recalls(np.stack(found), truth)
    interval = bootstrap_mean(mine)
    return Bucket(share, count, len(queries), float(mine.mean()), interval.low, interval.high,
                  float(np.median(seconds)) * 1e6, evaluations / len(queries), scanned / len(queries))
