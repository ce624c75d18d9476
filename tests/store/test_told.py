"""What was told of rows is told again, within its bounds."""

from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from madang.store.told import Told


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=8), max_size=60))
def test_it_says_what_was_kept_or_nothing(asked: list[list[int]]) -> None:
    told = Told(most_bytes=2000)
    for rows in asked:
        found = told.of(rows)
        assert found is None or found == [f"of {row}" for row in rows]
        told.keep({row: f"of {row}" for row in rows})
        assert len(told._texts) * 150 <= 2000
        assert told._size == sum(len(text) + 150 for text in told._texts.values())


def test_several_threads() -> None:
    told, wrong = Told(most_bytes=5000), []

    def work(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(500):
            rows = generator.integers(0, 100, 5).tolist()
            found = told.of(rows)
            if found is not None and found != [str(row) for row in rows]:
                wrong.append(rows)
            told.keep({row: str(row) for row in rows})

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(told._texts) <= 40
