"""Padded and real vectors in one index: found out, remembered with the index, and told once.

Vectors that a name such as "text-embedding-3-small" gave are those of a narrower model with zeros behind them. Beside
vectors that fill the whole width they cannot be compared, and no protocol tells which is which.
"""

from __future__ import annotations

import logging

from madang.models.aliases import KNOWN
from madang.models.protocol import Vectors
from madang.store import Collection

PADDED = "padding"               # attribute: "padded", "real" or "mixed"
_WIDTHS = frozenset(known.width for known in KNOWN.values() if known.width is not None)
_TAIL = 4                        # a vector is padded where a fourth of it, its end, is zero
_log = logging.getLogger("madang.serve")


def notice(collection: Collection, vectors: Vectors) -> str | None:
    """Look at vectors (n, dim) that are about to be written. A warning where they make the index hold both kinds, once;
    it is logged, too. Only widths that names of services have are looked at: others have no padding of ours."""
    if collection.dim not in _WIDTHS or not len(vectors):
        return None
    padded = ~vectors[:, collection.dim - collection.dim // _TAIL:].any(axis=1)
    kind = "padded" if padded.all() else "mixed" if padded.any() else "real"
    before = collection.attributes.get(PADDED, kind)
    now = kind if before == kind else "mixed"
    if collection.attributes.get(PADDED) != now:
        collection.set_attributes({PADDED: now})
        if now == "mixed":
            warning = (f"index {collection.name!r} now holds vectors of a narrower model, padded with zeros, and"
                       f" vectors that fill all {collection.dim:,} numbers; they cannot be compared with each other.")
            _log.warning("%s", warning)
            return warning
    return None
