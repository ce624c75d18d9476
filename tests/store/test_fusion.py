from __future__ import annotations

import pytest

from madang.base.errors import InvalidInput
from madang.store.fusion import Fusion, reciprocal_rank


def test_published_value() -> None:
    """RRF with k=5 and 1-based ranks; recomputed by hand from the formula."""
    fused = dict(reciprocal_rank([[1, 4, 3, 5, 6], [2, 1, 3, 6, 4]], k=5))
    assert {key: round(value, 6) for key, value in fused.items()} == {
        1: .309524, 3: .25, 4: .242857, 6: .211111, 2: .166667, 5: .111111}
    assert list(fused) == [1, 3, 4, 6, 2, 5]


def test_ties_keep_first_appearance_and_weights_count() -> None:
    assert [item for item, _ in reciprocal_rank([["a"], ["b"]])] == ["a", "b"]
    assert [item for item, _ in reciprocal_rank([["a"], ["b"]], [1, 2])] == ["b", "a"]


@pytest.mark.parametrize("bad", [{"k": 0}, {"depth": 0}, {"dense": -1.0}, {"dense": 0.0, "lexical": 0.0}])
def test_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        Fusion(**bad)  # type: ignore[arg-type]
