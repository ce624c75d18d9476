"""A service in trouble, played by a real HTTP server: what is tried again, and what the user is told."""

from __future__ import annotations

import logging
import random
import socket
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from madang.base.errors import InvalidInput, ServiceError
from madang.base.settings import Service
from madang.models.providers.openai_compatible import OpenAICompatibleProvider
from tests.models.service_stub import (
    ASK,
    BUSY,
    DONE,
    KEY,
    Client,
    Reply,
    ServiceStub,
    answer,
    chunk,
    connect,
    refused_url,
    stream,
    text_of,
)

LIMITED = Reply(429, json={"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}})
MODELS = Reply(json={"data": [{"id": f"model-{n}"} for n in range(14)] + [{"id": "tiny-1"}]})
NO_MODEL = Reply(404, json={"error": {"message": "`tiny` does not exist", "code": "model_not_found"}})


@pytest.fixture
def stub() -> Iterator[ServiceStub]:
    with ServiceStub() as server:
        yield server


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def provider(stub: ServiceStub, slept: list[float]) -> Client:
    return connect(stub.url, slept)


def failure_of(provider: Any, model: str = "tiny-1") -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        list(provider.chat_model(model).chat(ASK))
    assert "\n" not in str(caught.value)
    return caught.value


# --- trying again ---


@pytest.mark.parametrize("trouble", [
    BUSY, LIMITED, Reply(500, pieces=[b""]), Reply(502, pieces=[b"<html><title>Bad Gateway</title></html>"]),
    Reply(408), Reply(409), Reply(429), stream(cut=True), stream(chunk(role="assistant"), cut=True),
    stream(b'data: {"error": {"code": 503, "message": "busy"}}\n\n'),
], ids=["503", "429", "500", "502", "408", "409", "bare 429", "cut", "cut after the role", "in-stream error"])
def test_trouble_that_passes(stub: ServiceStub, provider: Client, slept: list[float],
                             trouble: Reply) -> None:
    stub.chat(trouble, trouble, answer("ok"))
    assert text_of(provider.chat_model("tiny-1").chat(ASK)) == "ok"
    assert len(stub.requests) == 3
    assert stub.requests[0].body == stub.requests[2].body
    assert len(slept) == 2


def test_backoff_doubles_up_to_a_limit_and_is_drawn_from_its_whole_range(stub: ServiceStub) -> None:
    stub.chat(BUSY)
    waits: list[list[float]] = []
    for seed in range(40):
        slept: list[float] = []
        provider = OpenAICompatibleProvider("local", Service(stub.url, retries=7), sleep=slept.append,
                                            rng=random.Random(seed))
        with pytest.raises(ServiceError):
            list(provider.chat_model("m").chat(ASK))
        waits.append(slept)
    limits = np.array([0.5, 1, 2, 4, 8, 8, 8])
    drawn = np.array(waits) / limits
    assert drawn.shape == (40, 7)
    assert (drawn >= 0).all()
    assert (drawn <= 1).all()
    assert (drawn.min(axis=0) < 0.25).all()
    assert (drawn.max(axis=0) > 0.75).all()


@pytest.mark.parametrize(("headers", "wait_s"), [
    ({"Retry-After": "3"}, 3.0),
    ({"Retry-After": "0"}, 0.0),
    ({"Retry-After": "1.5"}, 1.5),
    ({"Retry-After": "7200"}, 60.0),
    ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
    ({"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2015 07:28:09 GMT"}, 9.0),
    ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
])
def test_a_service_says_how_long_to_wait(stub: ServiceStub, provider: Client, slept: list[float],
                                         headers: dict[str, str], wait_s: float) -> None:
    stub.chat(Reply(429, json={"error": "slow down"}, headers=headers), answer("ok"))
    list(provider.chat_model("m").chat(ASK))
    assert slept == [wait_s]


@pytest.mark.parametrize("value", ["soon", "-1", "", "1e9", "Wed, 99 Oct"])
def test_a_wait_that_makes_no_sense_is_not_heeded(stub: ServiceStub, provider: Client,
                                                  slept: list[float], value: str) -> None:
    stub.chat(Reply(429, headers={"Retry-After": value}), answer("ok"))
    list(provider.chat_model("m").chat(ASK))
    assert len(slept) == 1
    assert 0 <= slept[0] <= 0.5


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422, 501])
def test_what_waiting_cannot_help_is_not_tried_again(stub: ServiceStub, provider: Client,
                                                     slept: list[float], status: int) -> None:
    stub.chat(Reply(status, json={"error": {"message": "No."}}))
    error = failure_of(provider)
    assert len(stub.sent()) == 1
    assert slept == []
    assert not error.retryable
    assert error.status == status
    assert f"{status}: No" in str(error)


def test_an_empty_account_is_not_asked_again(stub: ServiceStub, provider: Client) -> None:
    stub.chat(Reply(429, json={"error": {"message": "Out of quota", "code": "insufficient_quota"}}))
    error = failure_of(provider)
    assert error.kind == "rate_limit"
    assert "billing" in str(error)
    assert len(stub.requests) == 1


def test_retries_are_as_many_as_configured(stub: ServiceStub) -> None:
    stub.chat(BUSY)
    for retries in (0, 1, 3):
        before = len(stub.requests)
        failure_of(connect(stub.url, retries=retries))
        assert len(stub.requests) - before == retries + 1


@pytest.mark.parametrize("end", [
    stream(chunk("one"), cut=True), stream(chunk("one")),
    stream(chunk("one"), b'data: {"error": {"message": "I had an error", "type": "server_error"}}\n\n'),
    stream(chunk("one"), b"data: {oops\n\n"),
], ids=["cut", "ended", "error", "not JSON"])
def test_after_the_first_delta_nothing_is_tried_again(stub: ServiceStub, provider: Client,
                                                      slept: list[float], end: Reply) -> None:
    stub.chat(end, answer("never"))
    deltas = provider.chat_model("m").chat(ASK)
    assert next(deltas).text == "one"
    with pytest.raises(ServiceError):
        next(deltas)
    assert len(stub.requests) == 1
    assert slept == []


# --- what it says in trouble ---


def test_a_dead_host() -> None:
    url, slept = refused_url(), list[float]()
    error = failure_of(connect(url, slept, name="home"))
    assert str(error) == (f"cannot reach {url} (connection refused). Start the server, or correct base_url "
                          "in [services.home] of madang.toml.")
    assert (error.kind, error.retryable, error.status) == ("unreachable", True, None)
    assert len(slept) == 3


def test_a_connection_that_is_dropped_without_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        def hang_up() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        error = failure_of(connect(f"http://127.0.0.1:{server.getsockname()[1]}/v1", retries=1))
        thread.join()
    assert error.kind == "unreachable"
    assert "broke" in str(error)


@pytest.mark.parametrize(("name", "key", "phrases"), [
    ("openai", KEY, ["service 'openai' refused the API key (401: ",
                     "api_key in [services.openai] of madang.toml",
                     "MADANG_SERVICES_OPENAI_API_KEY or OPENAI_API_KEY"]),
    ("my-vllm", KEY, ["'my-vllm' refused the API key", "MADANG_SERVICES_MY_VLLM_API_KEY."]),
    ("local", "", ["asks for an API key, and none is set", "MADANG_SERVICES_LOCAL_API_KEY."]),
])
def test_a_bad_key(name: str, key: str, phrases: list[str]) -> None:
    with ServiceStub(key="sk-the-right-one") as stub:
        error = failure_of(connect(stub.url, name=name, api_key=key))
        assert len(stub.requests) == 1
    assert (error.kind, error.status) == ("auth", 401)
    for phrase in phrases:
        assert phrase in str(error)


def test_the_right_key() -> None:
    with ServiceStub(key=KEY) as stub:
        stub.chat(answer("ok"))
        assert text_of(connect(stub.url, api_key=f" {KEY}\n").chat_model("m").chat(ASK)) == "ok"


def test_the_key_is_never_shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in messages (this server repeats it in its own), tracebacks, reprs or the most talkative logs."""
    caplog.set_level(logging.DEBUG)
    service = Service(refused_url(), KEY, retries=0)
    seen = [repr(service), str(service)]
    with ServiceStub(key="sk-the-right-one") as stub:
        for url in (stub.url, service.base_url):
            provider = connect(url, api_key=KEY, retries=0)
            error = failure_of(provider)
            seen += ["".join(traceback.format_exception(error)), repr(error), repr(error.__dict__)]
            seen += [repr(provider), repr(provider.chat_model("m")), repr(provider.embedder("m"))]
        assert stub.requests[0].headers["authorization"] == f"Bearer {KEY}"
    with pytest.raises(InvalidInput, match="letter outside ASCII") as refused:
        connect("http://127.0.0.1:1/v1", api_key=f"{KEY}열쇠")
    with pytest.raises(InvalidInput, match="line break"):
        connect("http://127.0.0.1:1/v1", api_key=f"{KEY}\nX-Evil: 1")
    seen += ["".join(traceback.format_exception(refused.value)), caplog.text, *capfd.readouterr()]
    assert caplog.text
    assert not any(KEY in text for text in seen)


def test_a_wrong_model(stub: ServiceStub) -> None:
    stub.chat(NO_MODEL)
    stub.script("/v1/models", MODELS)
    error = failure_of(connect(stub.url, api_key=KEY), "tiny")
    assert (error.kind, error.status) == ("model", 404)
    assert str(error).startswith("service 'local' has no model 'tiny' (404: `tiny` does not exist). "
                                 "It has: tiny-1, model-")   # the nearest first
    assert str(error).count("model-") == 9
    assert str(error).endswith(" and 5 more.")
    assert stub.sent("/v1/models")[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(("models", "phrase"), [
    (Reply(json={"object": "list", "data": []}), "It has no models yet"),
    (Reply(json={"object": "list", "data": [{"id": "tiny-1"}]}), "'tiny-1', but not for this"),
    (Reply(404), "most end in /v1"),
    (Reply(pieces=[b"<html>"], content_type="text/html"), "most end in /v1"),
    (Reply(json=["tiny-1"]), "most end in /v1"),
])
def test_a_wrong_model_when_the_list_does_not_help(stub: ServiceStub, provider: Client,
                                                   models: Reply, phrase: str) -> None:
    stub.chat(NO_MODEL)
    stub.script("/v1/models", models)
    assert phrase in str(failure_of(provider, "tiny-1"))


def test_a_base_url_without_its_path(stub: ServiceStub) -> None:
    error = failure_of(connect(stub.url.removesuffix("/v1")))
    assert f"Check base_url ({stub.url.removesuffix('/v1')}) in [services.local]" in str(error)


def test_a_server_that_is_too_slow(stub: ServiceStub, slept: list[float]) -> None:
    release = threading.Event()

    def wait() -> None:
        release.wait(10)

    for reply in (stream(wait, chunk("late"), DONE), Reply(json={"late": True}, headers={"X": "1"})):
        stub.chat((lambda request, reply=reply: [wait(), reply][1]) if reply.json else reply)
        error = failure_of(connect(stub.url, slept, timeout_s=0.15))
        assert error.kind == "timeout"
        assert "within 0.15 s" in str(error)
        assert "Raise timeout_s in [services.local] of madang.toml" in str(error)
    release.set()
    assert slept == [], "a slow server is not helped by being asked the same again"


def test_a_rate_limit_that_stays(stub: ServiceStub, provider: Client) -> None:
    stub.chat(LIMITED)
    error = failure_of(provider)
    assert (error.kind, error.status, error.retryable) == ("rate_limit", 429, True)
    assert "limits the rate of requests after 4 attempts (429: Rate limit reached)" in str(error)


def test_a_server_that_stays_broken(stub: ServiceStub, provider: Client) -> None:
    stub.chat(BUSY)
    error = failure_of(provider)
    assert (error.kind, error.status) == ("server", 503)
    assert "failed after 4 attempts (503: Loading model)" in str(error)
    stub.chat(Reply(500))
    assert "(500: Internal Server Error)" in str(failure_of(provider)), "a bare status still has a name"
    stub.chat(Reply(599))
    assert "(599)" in str(failure_of(provider))


def test_a_prompt_that_does_not_fit(stub: ServiceStub, provider: Client) -> None:
    said = "This model's maximum context length is 4096 tokens."
    for reply in (Reply(400, json={"error": {"message": said}}),
                  stream(f'error: {{"code":400,"message":"{said}"}}\n\ndata: [DONE]\n\n'.encode())):
        stub.chat(reply)
        error = failure_of(provider)
        assert error.kind == "protocol"
        assert said.rstrip(".") in str(error)
        assert "top_k" in str(error)


@pytest.mark.parametrize(("reply", "phrase"), [
    (stream(b"data: {\n\n"), "not JSON"),
    (stream(b"data: []\n\n"), "JSON object"),
    (Reply(pieces=[b"{oops"], content_type="application/json"), "not JSON: '{oops'"),
    (Reply(json={"hello": 1}), "choices"),
    (Reply(json=[]), "JSON object"),
    (Reply(pieces=[b"<html><title>Log in</title></html>"], content_type="text/html"), "a web page"),
])
def test_answers_that_make_no_sense(stub: ServiceStub, provider: Client, reply: Reply,
                                    phrase: str) -> None:
    stub.chat(reply)
    error = failure_of(provider)
    assert error.kind == "protocol"
    assert phrase in str(error)
    assert "base_url" in str(error)
    assert len(stub.requests) == 1


@pytest.mark.parametrize(("reply", "phrase"), [
    (stream(chunk("one"), cut=True), "middle of its answer"),
    (stream(chunk("one")), "middle of its answer"),
    (stream(b"Hello.", content_type="text/plain"), "content type text/plain"),
    (stream(b'{"response": "a"}\n', content_type="application/x-ndjson"), "application/x-ndjson"),
    (Reply(), "content type missing"),
])
def test_a_stream_cut_off(stub: ServiceStub, provider: Client, reply: Reply, phrase: str) -> None:
    stub.chat(reply)
    error = failure_of(provider)
    assert error.kind == "protocol"
    assert "broke off" in str(error)
    assert phrase in str(error)


def test_a_cut_after_the_last_word_loses_nothing(stub: ServiceStub, provider: Client) -> None:
    stub.chat(stream(chunk("all"), chunk(finish="stop"), cut=True))
    assert list(provider.chat_model("m").chat(ASK))[-1].finish_reason == "stop"
