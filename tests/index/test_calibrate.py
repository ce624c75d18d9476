"""What a breadth is measured with: different queries, measured again while there are few."""

from __future__ import annotations

import numpy as np

from madang.index import HNSW

RNG = np.random.default_rng(3)
CENTRES = RNG.standard_normal((40, 32))
DATA = (CENTRES[RNG.integers(0, 40, 6000)] + 0.3 * RNG.standard_normal((6000, 32))).astype(np.float32)
ASKED = (CENTRES[RNG.integers(0, 40, 300)] + 0.3 * RNG.standard_normal((300, 32))).astype(np.float32)
ODD = RNG.standard_normal((100, 32)).astype(np.float32)       # from anywhere: much harder


def index() -> HNSW:
    made = HNSW(32, m=4, ef_construction=40)
    made.add(DATA)
    return made


def test_one_query_again_and_again_is_one_query() -> None:
    asked = index()
    made_up = asked.breadth(ODD[:1], 10, target_recall=0.9)
    for _ in range(300):
        assert asked.breadth(ODD[:1], 10, target_recall=0.9) == made_up


def test_odd_queries_in_the_beginning_do_not_decide_for_good() -> None:
    asked, usual = index(), index()
    for query in ODD[:64]:
        odd = asked.breadth(query[None], 10, target_recall=0.9)
    for query in ASKED[:256]:
        after = asked.breadth(query[None], 10, target_recall=0.9)
        wanted = usual.breadth(query[None], 10, target_recall=0.9)
    assert odd > 1.5 * wanted       # or the test says nothing
    assert wanted <= after < (odd + wanted) / 2
