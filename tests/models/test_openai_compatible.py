"""The client of OpenAI-compatible services against a real HTTP server: what it sends and what it yields."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from madang.base.errors import InvalidInput, NotFound, ServiceError
from madang.base.messages import ChatOptions, Delta, Message, Usage
from madang.models.protocol import ChatModel, Embedder
from tests.models.service_stub import (
    ASK,
    BUSY,
    DONE,
    KEY,
    Client,
    Reply,
    Request,
    ServiceStub,
    answer,
    chunk,
    connect,
    embeddings,
    stream,
    text_of,
)


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


# --- chat ---


def test_a_chat_as_it_is_sent_and_answered(stub: ServiceStub) -> None:
    stub.chat(answer("연차는 ", "15일", "입니다."))
    model = connect(stub.url, api_key=KEY).chat_model("org/tiny-1")
    deltas = list(model.chat([Message("system", "짧게."), *ASK], ChatOptions(temperature=0.5, max_tokens=9)))
    assert [delta.text for delta in deltas] == ["연차는 ", "15일", "입니다.", ""]
    assert deltas[0] == Delta("연차는 ", model="tiny-1")
    assert deltas[-1] == Delta("", "stop", Usage(7, 3), "tiny-1")
    (request,) = stub.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert "text/event-stream" in request.headers["accept"]
    assert request.json == {
        "model": "org/tiny-1", "temperature": 0.5, "max_tokens": 9, "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "짧게."}, {"role": "user", "content": "How many days?"}]}


def test_without_a_key_none_is_sent(stub: ServiceStub, provider: Client) -> None:
    stub.chat(answer("ok"))
    list(provider.chat_model("tiny-1").chat(ASK))
    assert "authorization" not in stub.requests[0].headers
    assert "max_tokens" not in stub.requests[0].json


def test_models_are_what_the_protocols_say(provider: Client) -> None:
    chat: ChatModel = provider.chat_model("org/m")
    embedder: Embedder = provider.embedder("e")
    assert (chat.name, embedder.name, embedder.signature) == ("local/org/m", "local/e", "local/e")
    assert embedder.languages == frozenset()
    assert provider.models() == []
    with pytest.raises(NotFound, match=r"no extractive readers.*\[models\] chat = \"local/m\""):
        provider.reader("m")


def test_each_delta_comes_when_it_was_sent(stub: ServiceStub, provider: Client) -> None:
    """The server sends the second word only after the client has seen the first."""
    seen = threading.Event()

    def wait() -> None:
        assert seen.wait(10)

    stub.chat(stream(chunk("one"), wait, chunk("two"), chunk(finish="stop"), DONE))
    deltas = provider.chat_model("tiny-1").chat(ASK)
    assert next(deltas).text == "one"
    seen.set()
    assert next(deltas).text == "two"
    assert next(deltas).finish_reason == "stop"
    assert list(deltas) == []


def test_characters_cut_in_the_middle_by_the_network(stub: ServiceStub, provider: Client) -> None:
    body = b"".join([chunk("마당은 "), chunk("뜰이다"), chunk(finish="stop"), DONE])
    stub.chat(stream(*(body[i:i + 1] for i in range(len(body)))))
    assert text_of(provider.chat_model("tiny-1").chat(ASK)) == "마당은 뜰이다"


def test_a_server_that_does_not_stream(stub: ServiceStub, provider: Client) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "15 days"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    stub.chat(Reply(json={"model": "tiny-1", "choices": [choice], "usage": usage}))
    assert list(provider.chat_model("m").chat(ASK)) == [Delta("15 days", "stop", Usage(3, 2), "tiny-1")]


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", None])
def test_a_stream_under_a_wrong_or_no_content_type(stub: ServiceStub, provider: Client,
                                                   content_type: Any) -> None:
    stub.chat(stream(chunk("ok"), chunk(finish="stop"), DONE, content_type=content_type))
    assert text_of(provider.chat_model("m").chat(ASK)) == "ok"


def test_closing_early_hangs_up(stub: ServiceStub, provider: Client) -> None:
    """The server notices, as it cannot get rid of its answer any more."""
    closed = threading.Event()

    def wait() -> None:
        assert closed.wait(10)

    stub.chat(stream(chunk("one"), wait, *([chunk("x" * 10_000)] * 2000)))
    deltas: Any = provider.chat_model("tiny-1").chat(ASK)
    assert next(deltas).text == "one"
    deltas.close()
    closed.set()
    assert stub.gone.wait(10)


def test_another_thread_stops_an_answer_that_does_not_come(stub: ServiceStub, provider: Client) -> None:
    """The service is silent until the very end of the test; whoever waits for it is woken all the same."""
    over, waits = threading.Event(), threading.Event()
    stub.chat(stream(chunk("one"), lambda: over.wait(30) and None, chunk("two")))
    deltas: Any = provider.chat_model("tiny-1").chat(ASK)
    assert next(deltas).text == "one"
    woken: list[BaseException] = []

    def read() -> None:
        waits.set()
        try:
            next(deltas)
        except ServiceError as error:
            woken.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    waits.wait(10)
    deltas.cancel()
    thread.join(20)
    assert not thread.is_alive()
    over.set()
    assert len(woken) == 1


def test_connections_are_reused_and_end_with_the_provider(stub: ServiceStub) -> None:
    stub.script("/v1/embeddings", embeddings([[1.0, 0.0]]))
    provider = connect(stub.url)
    embedder = provider.embedder("e")
    for _ in range(3):
        embedder.embed(["a"])
    assert stub.connections == 1
    provider.close()
    embedder.embed(["a"])
    assert stub.connections == 2
    del provider, embedder
    gc.collect()   # a socket left open would be a ResourceWarning, which is an error here


def test_threads_share_a_provider(stub: ServiceStub, provider: Client) -> None:
    stub.chat(lambda request: answer(request.json["messages"][0]["content"]))
    texts: dict[int, str] = {}

    def ask(number: int) -> None:
        texts[number] = text_of(provider.chat_model("m").chat([Message("user", f"n{number}")]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {number: f"n{number}" for number in range(8)}


@pytest.mark.parametrize(("arguments", "phrase"), [
    ({"messages": []}, "at least one message"),
    ({"messages": [Message("robot", "x")]}, "system, user"),  # type: ignore[arg-type]
    ({"messages": [Message("user", 1)]}, "must be text"),  # type: ignore[arg-type]
    ({"options": ChatOptions(temperature=-0.1)}, "temperature"),
    ({"options": ChatOptions(temperature=float("nan"))}, "temperature"),
    ({"options": ChatOptions(max_tokens=0)}, "max_tokens"),
])
def test_a_wrong_argument_is_refused_at_once(stub: ServiceStub, provider: Client,
                                             arguments: dict[str, Any], phrase: str) -> None:
    with pytest.raises(InvalidInput, match=phrase):
        provider.chat_model("m").chat(**{"messages": ASK, **arguments})   # not even iterated
    assert not stub.requests


# --- models that take fewer parameters ---


def test_a_model_that_takes_no_max_tokens_and_no_temperature(stub: ServiceStub,
                                                             provider: Client) -> None:
    """OpenAI's reasoning models: asked again as they want it, and right at once the next time."""
    def reasoning(request: Request) -> Reply:
        for key, code in (("max_tokens", "unsupported_parameter"), ("temperature", "unsupported_value")):
            if key in request.json:
                return Reply(400, json={"error": {"message": f"'{key}' is not supported with this model.",
                                                  "param": key, "code": code}})
        return answer("ok")

    stub.chat(reasoning)
    model = provider.chat_model("o4-mini")
    assert text_of(model.chat(ASK, ChatOptions(max_tokens=5))) == "ok"
    assert len(stub.requests) == 3
    assert text_of(model.chat(ASK, ChatOptions(max_tokens=5))) == "ok"
    assert len(stub.requests) == 4
    assert stub.requests[-1].json["max_completion_tokens"] == 5


def test_a_server_that_forbids_stream_options(stub: ServiceStub, provider: Client) -> None:
    stub.chat(Reply(422, json={"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"],
                                           "msg": "Extra inputs are not permitted"}]}), answer("ok"))
    assert text_of(provider.chat_model("m").chat(ASK)) == "ok"
    assert "stream_options" not in stub.requests[1].json


def test_importing_costs_no_http_library() -> None:
    code = ("import sys, madang.models.providers.openai_compatible as m; "
            "from madang.base.settings import Service; "
            "m.OpenAICompatibleProvider('x', Service()).chat_model('y'); "
            "print([n for n in ('httpx', 'httpcore', 'anyio') if n in sys.modules])")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# --- embeddings ---


def unit_by_length(request: Request) -> Reply:
    """[length of the text, 1], from the last to the first."""
    texts = request.json["input"]
    data = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(texts)]
    return Reply(json={"data": data[::-1]})


def test_embeddings_are_batched_in_order_and_of_length_1(stub: ServiceStub,
                                                         provider: Client) -> None:
    stub.script("/v1/embeddings", unit_by_length)
    texts = ["가" * (n % 97) for n in range(150)]
    finished: list[int] = []
    vectors = provider.embedder("e").embed(texts, "query", finished.append)
    assert vectors.dtype == np.float32
    expected = np.array([[len(t), 1.0] for t in texts])
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
    assert finished == [64, 64, 22]
    assert [len(r.json["input"]) for r in stub.requests] == [64, 64, 22]
    assert stub.requests[0].json["model"] == "e"
    assert stub.requests[0].json["encoding_format"] == "float"


def test_dim_is_asked_for_once_and_only_if_needed(stub: ServiceStub, provider: Client) -> None:
    stub.script("/v1/embeddings", unit_by_length)
    first, second = provider.embedder("e"), provider.embedder("e")
    assert not stub.requests
    assert (first.dim, first.dim) == (2, 2)
    assert len(stub.requests) == 1
    assert first.embed([]).shape == (0, 2)
    assert len(stub.requests) == 1
    second.embed(["a"])
    assert second.dim == 2
    assert len(stub.requests) == 2


def test_embeddings_are_tried_again(stub: ServiceStub, provider: Client, slept: list[float]) -> None:
    busy_after_all = Reply(json={"error": {"message": "busy", "code": 503}})
    stub.script("/v1/embeddings", BUSY, busy_after_all, unit_by_length)
    assert provider.embedder("e").embed(["a"]).shape == (1, 2)
    assert len(slept) == 2


@pytest.mark.parametrize(("reply", "phrase"), [
    (embeddings([[1.0, 0.0]]), "1 embeddings for 2 texts"),
    (embeddings([[1.0, 0.0], [1.0]]), "1 and 2 numbers"),
    (embeddings([[1.0, 0.0, 0.0]] * 2), "embeddings of 3 numbers, after 2 before"),
    (embeddings([[0.0, 0.0], [1.0, 0.0]]), "zero or not finite"),
    (embeddings([[float("nan"), 0.0], [1.0, 0.0]]), "zero or not finite"),
    (embeddings([[1e300, 0.0], [1.0, 0.0]]), "zero or not finite"),
    (Reply(pieces=[b"<html><title>Log in</title></html>"], content_type="text/html"), "not JSON: 'Log in'"),
])
def test_embeddings_that_cannot_be_right(stub: ServiceStub, provider: Client, reply: Reply,
                                         phrase: str) -> None:
    stub.script("/v1/embeddings", unit_by_length, reply)
    embedder = provider.embedder("e")
    embedder.embed(["a"])
    with pytest.raises(ServiceError) as caught:
        embedder.embed(["a", "b"])
    assert caught.value.kind == "protocol"
    assert phrase in str(caught.value)
    assert len(stub.requests) == 2


def test_huge_and_tiny_vectors_are_normalised(stub: ServiceStub, provider: Client) -> None:
    stub.script("/v1/embeddings", embeddings([[3e30, 4e30], [3e-30, 4e-30]]))
    np.testing.assert_allclose(provider.embedder("e").embed(["a", "b"]), [[0.6, 0.8]] * 2, rtol=1e-6)


@pytest.mark.parametrize(("texts", "phrase"), [
    ("a text", r"Pass \[text\]"), (["a", 1], r"texts\[1\] must be str, not int"), ([None], "not NoneType"),
    ([b"a"], "not bytes"),
])
def test_what_is_no_text_is_refused(stub: ServiceStub, provider: Client, texts: Any,
                                    phrase: str) -> None:
    with pytest.raises(InvalidInput, match=phrase):
        provider.embedder("e").embed(texts)
    assert not stub.requests


def test_what_is_sent_is_json_whatever_the_text(stub: ServiceStub, provider: Client) -> None:
    stub.script("/v1/embeddings", unit_by_length)
    texts = ['"quoted"\n\x00', "가나\u2028", "\ud800", "𝕄"]
    provider.embedder("e").embed(texts)
    assert json.loads(stub.requests[0].body)["input"] == [*texts[:2], "?", texts[3]]
