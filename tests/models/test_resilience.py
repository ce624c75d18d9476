"""When a service is tried again and when it is left alone: properties under a clock that the test turns."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from madang.base.errors import ServiceError
from madang.base.settings import Service
from madang.models.providers.openai_compatible import OpenAICompatibleProvider
from madang.models.providers.resilience import Breaker, Call, Slots, wait_s
from tests.models.service_stub import ASK, BUSY, Reply, ServiceStub, answer, refused_url, text_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- waiting ---

@given(st.integers(1, 1000), st.integers())
def test_jitter_is_full_and_bounded(attempt: int, seed: int) -> None:
    limit = min(8.0, 0.5 * 2 ** (attempt - 1)) if attempt < 10 else 8.0
    drawn = [wait_s(attempt, None, random.Random(seed + n)) for n in range(60)]
    assert all(0 <= each <= limit for each in drawn)
    assert min(drawn) < limit / 2 < max(drawn)


@given(st.integers(1, 50), st.floats(0, 1e9))
def test_what_the_service_asks_for_wins_within_reason(attempt: int, asked_s: float) -> None:
    assert wait_s(attempt, asked_s, random.Random(0)) == min(asked_s, 60.0)


# --- the breaker, against a model of it ---

class BreakerMachine(RuleBasedStateMachine):
    AFTER, REST_S = 3, 30.0

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker("s", self.AFTER, self.REST_S, self.clock)
        self.under_way: list[Call] = []
        self.in_a_row, self.opened_at, self.probe = 0, None, None

    opened_at: float | None
    probe: Call | None

    @rule(seconds=st.sampled_from([0.0, 1.0, 29.0, 30.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def call(self) -> None:
        resting = self.opened_at is not None and self.clock.now < self.opened_at + self.REST_S
        if resting or self.probe is not None:
            with pytest.raises(ServiceError, match="left alone") as caught:
                self.breaker.enter()
            assert caught.value.retryable
            if self.probe is None:
                assert self.opened_at is not None
                left = self.opened_at + self.REST_S - self.clock.now
                assert f"tried again in {left:.0f} s" in str(caught.value)
            return
        call = self.breaker.enter()
        assert call.probe == (self.opened_at is not None)
        if call.probe:
            self.probe = call
        self.under_way.append(call)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "server", "timeout", "unreachable", "auth", "rate_limit",
                                               "given up"]))
    def ends(self, data: Any, how: str) -> None:
        call = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        with call:
            if how == "succeeded":
                call.succeeded()
            elif how != "given up":
                call.failed(how, "it said no")
        mine = call is self.probe
        if mine:
            self.probe = None
        if how == "given up":
            return
        if how in ("server", "timeout", "unreachable"):
            self.in_a_row += 1
            if mine or (self.opened_at is None and self.in_a_row >= self.AFTER):
                self.opened_at = self.clock.now
        elif mine or self.opened_at is None:
            self.in_a_row, self.opened_at = 0, None

    @invariant()
    def it_says_how_it_stands(self) -> None:
        if self.opened_at is None:
            expected = "closed"
        else:
            over = self.clock.now >= self.opened_at + self.REST_S
            expected = "half_open" if over or self.probe is not None else "open"
        assert self.breaker.state == expected


TestBreaker = BreakerMachine.TestCase


def test_zero_never_opens() -> None:
    breaker = Breaker("s", 0, 30.0, Clock())
    for _ in range(100):
        with breaker.enter() as call:
            call.failed("server", "")
    assert breaker.state == "closed"


def test_of_many_threads_one_probes() -> None:
    clock = Clock()
    breaker = Breaker("s", 1, 5.0, clock)
    with breaker.enter() as call:
        call.failed("server", "")
    clock.now += 5
    passed: list[Call] = []
    refused: list[ServiceError] = []
    together = threading.Barrier(8)

    def try_it() -> None:
        together.wait()
        try:
            passed.append(breaker.enter())
        except ServiceError as error:
            refused.append(error)

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(passed), len(refused)) == (1, 7)
    assert all("One call is trying it now" in str(error) for error in refused)


# --- slots ---

def test_never_more_at_a_time_than_slots() -> None:
    slots, lock = Slots("s", 3, 60.0), threading.Lock()
    now, most = 0, 0

    def work() -> None:
        nonlocal now, most
        for _ in range(200):
            with slots.taken():
                with lock:
                    now += 1
                    most = max(most, now)
                with lock:
                    now -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert now == 0
    assert 1 <= most <= 3


def test_who_waits_too_long_is_told() -> None:
    slots = Slots("s", 1, 0.01)
    with slots.taken(), pytest.raises(ServiceError, match=r"has 1 requests under way.*concurrency in \[services.s\]"), \
            slots.taken():
        pass
    with slots.taken():
        pass


# --- of a real service ---

def test_a_service_that_is_down_is_left_alone_and_tried_again() -> None:
    clock = Clock()
    with ServiceStub() as stub:
        stub.chat(BUSY, BUSY, BUSY, BUSY, BUSY, answer("back"))
        provider = OpenAICompatibleProvider("local", Service(stub.url, retries=1, break_after=2, break_s=20),
                                            sleep=lambda _: None, rng=random.Random(0), clock=clock)
        chat = provider.chat_model("m")
        for _ in range(2):
            with pytest.raises(ServiceError, match="failed after 2 attempts"):
                list(chat.chat(ASK))
        assert len(stub.requests) == 4
        with pytest.raises(ServiceError, match=r"failed 2 times in a row \(the last time: service 'local' failed.*"
                                               r"It will be tried again in 20 s"):
            list(provider.chat_model("another").chat(ASK))       # it is the service that is down
        assert len(stub.requests) == 4
        clock.now += 20
        with pytest.raises(ServiceError, match="failed"):        # the probe tries once, whatever `retries` says
            list(chat.chat(ASK))
        assert len(stub.requests) == 5
        with pytest.raises(ServiceError, match="left alone"):
            list(chat.chat(ASK))
        clock.now += 20
        assert text_of(chat.chat(ASK)) == "back"
        assert text_of(chat.chat(ASK)) == "back"


def test_refusals_and_limits_do_not_count() -> None:
    with ServiceStub() as stub:
        stub.chat(Reply(401, json={"error": {"message": "no"}}), Reply(429, json={"error": {"message": "slow"}}))
        provider = OpenAICompatibleProvider("local", Service(stub.url, retries=0, break_after=1), sleep=lambda _: None)
        for expected in ("API key", "rate", "rate"):
            with pytest.raises(ServiceError, match=expected):
                list(provider.chat_model("m").chat(ASK))


def test_a_stream_that_is_given_up_frees_its_place() -> None:
    with ServiceStub() as stub:
        stub.chat(answer("a", "b", "c"))
        provider = OpenAICompatibleProvider("local", Service(stub.url, concurrency=1, timeout_s=5), sleep=lambda _: None)
        for _ in range(3):
            stream = provider.chat_model("m").chat(ASK)
            next(stream)
            stream.close()
        assert text_of(provider.chat_model("m").chat(ASK)) == "abc"


def test_a_key_stays_out_of_what_is_told_later() -> None:
    provider = OpenAICompatibleProvider("local", Service(refused_url(), api_key="sk-secret-secret", retries=0, break_after=1),
                                        sleep=lambda _: None)
    for _ in range(2):
        with pytest.raises(ServiceError) as caught:
            list(provider.chat_model("m").chat(ASK))
    assert "left alone" in str(caught.value)
    assert "secret" not in str(caught.value)
