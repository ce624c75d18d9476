"""From a thread to the event loop, and what happens when nobody listens any more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from madang.serve.events import Feed
from madang.serve.handed import AHEAD
from madang.serve.streaming import FromThread, merged
from madang.serve.work import Work


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.close()


def test_pieces_come_in_order_and_errors_after_them(work: Work) -> None:
    def start() -> Iterator[int]:
        yield from range(100)
        raise ValueError("at the end")

    async def run() -> list[int]:
        async with FromThread(work, start) as stream:
            found = [await anext(stream) for _ in range(100)]
            with pytest.raises(ValueError, match="at the end"):
                await anext(stream)
            assert [piece async for piece in stream] == []
        return found

    assert asyncio.run(run()) == list(range(100))


def test_leaving_stops_the_thread_and_closes_what_it_reads(work: Work) -> None:
    closed, told = threading.Event(), threading.Event()

    class Endless:
        """Waits for ever after its first piece, until it is cancelled."""

        def __init__(self) -> None:
            self.cancelled, self.first = threading.Event(), True

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> int:
            if self.first:
                self.first = False
                return 1
            told.set()
            self.cancelled.wait(20)
            raise OSError("shut down")

        def cancel(self) -> None:
            self.cancelled.set()

        def close(self) -> None:
            closed.set()

    async def run() -> None:
        async with FromThread(work, Endless) as stream:
            assert await anext(stream) == 1
            await asyncio.to_thread(told.wait, 20)

    asyncio.run(run())
    assert closed.wait(20)


def test_the_loop_is_not_held_up(work: Work) -> None:
    """While the thread waits, the loop does other things: those that the thread waits for."""
    go = threading.Event()

    def start() -> Iterator[int]:
        yield 1
        assert go.wait(20)
        yield 2

    async def run() -> list[int]:
        async with FromThread(work, start) as stream:
            first = await anext(stream)
            asyncio.get_running_loop().call_soon(go.set)
            return [first, await anext(stream)]

    assert asyncio.run(run()) == [1, 2]


def test_several_are_told_as_they_come(work: Work) -> None:
    """The second is heard before the first begins."""
    over = threading.Event()

    def slow() -> Iterator[str]:
        assert over.wait(20)
        yield "slow"

    def quick() -> Iterator[str]:
        yield "quick"

    async def run() -> list[tuple[int, str]]:
        found = []
        async for each in merged([FromThread(work, slow), FromThread(work, quick)]):
            found.append(each)
            over.set()
        return found

    assert asyncio.run(run()) == [(1, "quick"), (0, "slow")]


@pytest.mark.timeout(60)
def test_who_makes_without_end_waits_for_who_takes() -> None:
    """The loop is kept busy on purpose: nothing is taken, and no more than `AHEAD` may be waiting for it."""
    made, stopped = [0], threading.Event()

    async def run() -> int:
        feed = Feed()

        def endless() -> None:
            while feed.put("text", made[0]):
                made[0] += 1
            stopped.set()

        thread = threading.Thread(target=endless)
        thread.start()
        time.sleep(0.5)                                  # on purpose not asyncio's
        waiting, events = made[0], feed.events()
        assert (await anext(events)).startswith(b"event: text")
        await events.aclose()                            # type: ignore[attr-defined]
        await asyncio.to_thread(stopped.wait, 20)
        thread.join(20)
        return waiting

    assert asyncio.run(run()) <= AHEAD
    assert stopped.is_set()
