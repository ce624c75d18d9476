"""NSW: one navigable small world without levels (Malkov et al. 2014), to see what HNSW's levels and choice of links do.

Every vector is linked to its nearest neighbours only, and a search starts at the first vector. Where data comes in
clusters, most links stay inside one, and the walk ends in a cluster that is not the right one: the local minimum that
HNSW was made to avoid. `madang index lab` measures both side by side.
"""

from __future__ import annotations

from typing import ClassVar

from madang.index.graph import SmallWorld


class NSW(SmallWorld):
    """A single layer of links to the nearest neighbours. For study: HNSW needs fewer comparisons on most data.

    The parameters are those of `HNSW`.
    """

    kind: ClassVar[str] = "nsw"
    _layered: ClassVar[bool] = False
    _alpha: ClassVar[float] = 0.0
