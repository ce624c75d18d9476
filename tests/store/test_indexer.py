"""The thread behind a collection, and the one that helps while somebody waits."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from madang.store.indexer import Indexer


class Work:
    """Steps to do; each says who did it, and that nobody else was at one."""

    def __init__(self, steps: int) -> None:
        self.left, self.alone, self.fails = steps, threading.Lock(), False
        self.nice: list[int] = []
        self.may_go_on, self.at_it = threading.Event(), threading.Event()
        self.may_go_on.set()

    def step(self) -> bool:
        assert self.alone.acquire(blocking=False)
        try:
            self.at_it.set()
            self.may_go_on.wait()
            if self.fails:
                raise ValueError("on purpose")
            if sys.platform == "linux":
                self.nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            self.left -= 1
            return self.left > 0
        finally:
            self.alone.release()


def test_all_is_done_when_waiting_ends() -> None:
    work = Work(300)
    indexer = Indexer(work.step, "test")
    assert indexer.wait()           # nothing was asked for
    indexer.wake()
    waiters = [threading.Thread(target=indexer.wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    assert indexer.wait()
    assert work.left == 0
    for waiter in waiters:
        waiter.join()
    work.left = 20
    indexer.wake()
    assert indexer.wait()
    assert work.left == 0
    indexer.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads a niceness of their own")
def test_nobody_goes_before_a_step_that_somebody_waits_for() -> None:
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    work = Work(1)
    indexer = Indexer(work.step, "test")
    indexer.wake()
    assert indexer.wait_for(lambda: work.left == 0, 60)
    work.nice.clear()
    work.left, done = 5, threading.Event()
    indexer._step = lambda: work.step() or bool(done.set())
    indexer.wake()
    assert done.wait(60)
    assert max(work.nice) == min(19, own + 10)      # nobody waited
    work.nice.clear()
    work.may_go_on.clear()
    work.at_it.clear()
    work.left = 50
    indexer.wake()
    assert work.at_it.wait(60)                      # the first step has begun; nobody waits for it yet

    def go_on() -> None:
        while indexer._hurrying is None:
            time.sleep(0.001)
        work.may_go_on.set()

    threading.Thread(target=go_on).start()
    assert indexer.wait(60)
    assert len(work.nice) == 50
    assert work.nice[1:] == [own] * 49
    indexer.stop()


def test_an_error_is_told_to_who_waits_and_the_next_wake_begins_anew() -> None:
    work = Work(10)
    work.fails = True
    indexer = Indexer(work.step, "test")
    indexer.wake()
    with pytest.raises(ValueError, match="on purpose"):
        indexer.wait(60)
    work.fails = False
    indexer.wake()
    assert indexer.wait(60)
    assert work.left == 0
    indexer.stop()


def test_the_time_is_over_and_stopping_waits_for_the_step() -> None:
    work = Work(1000)
    work.may_go_on.clear()
    indexer = Indexer(work.step, "test")
    indexer.wake()
    assert not indexer.wait(0.05)
    waiter = threading.Thread(target=indexer.wait_for, args=(lambda: False, 60))
    waiter.start()
    threading.Timer(0.05, work.may_go_on.set).start()
    indexer.stop()
    assert work.alone.acquire(blocking=False)       # nobody is at a step any more
    waiter.join()
    before = work.left
    indexer.wake()
    assert work.left == before
