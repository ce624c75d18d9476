"""Chat completions over plain HTTP: what is told, how it is refused, how it is streamed, and how it is stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.models.service_stub import DONE, Reply, ServiceStub, answer, chunk, stream
from tests.serve.openai.proxied import proxied

HANDBOOK = "Employees get 25 days of paid vacation per year."
ASK = [{"role": "system", "content": HANDBOOK}, {"role": "user", "content": "How many vacation days do employees get?"}]
WEATHER = {"name": "get_weather", "description": "Get the current weather for a city.",
           "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
SEOUL = [{"role": "user", "content": "What is the weather in Seoul?"}]


def chat(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": ASK, **body})


def events(text: str) -> list[Any]:
    found = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert found[-1] == "[DONE]"
    return [json.loads(event) for event in found[:-1]]


def test_an_answer(http: httpx.Client) -> None:
    said = chat(http)
    assert said.status_code == 200
    body = said.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "bundled/reader"
    assert body["choices"] == [{"index": 0, "message": {"role": "assistant", "content": HANDBOOK, "refusal": None},
                                "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def test_a_stream(http: httpx.Client) -> None:
    said = chat(http, stream=True, stream_options={"include_usage": True}, n=2)
    assert said.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = events(said.text)
    assert len({event["id"] for event in found}) == 1
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    for number in (0, 1):
        own = [event["choices"][0] for event in found if event["choices"] and event["choices"][0]["index"] == number]
        assert "".join(choice["delta"].get("content", "") for choice in own) == HANDBOOK
        assert [choice["finish_reason"] for choice in own] == [None] * (len(own) - 1) + ["stop"]
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == 0
    assert all(event["usage"] is None for event in found[:-1])
    assert all("usage" not in event for event in events(chat(http, stream=True).text))


def test_functions_as_they_were_called_before_tools(http: httpx.Client) -> None:
    said = chat(http, messages=SEOUL, functions=[WEATHER], function_call="auto").json()["choices"][0]
    assert said["finish_reason"] == "function_call"
    assert said["message"]["function_call"] == {"name": "get_weather", "arguments": '{"city": "Seoul"}'}
    told = [*SEOUL, {"role": "assistant", "content": None, "function_call": said["message"]["function_call"]},
            {"role": "function", "name": "get_weather", "content": "Sunny."}]
    assert chat(http, messages=told, functions=[WEATHER]).json()["choices"][0]["message"]["content"] == "Sunny."


TOOL = {"type": "function", "function": WEATHER}
USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(("body", "param", "code"), [
    ({"model": None}, "model", "missing_required_parameter"),
    ({"model": 3}, "model", "invalid_type"),
    ({"messages": None}, "messages", "missing_required_parameter"),
    ({"messages": "hi"}, "messages", "invalid_type"),
    ({"messages": []}, "messages", "empty_array"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id", "missing_required_parameter"),
    ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type", "invalid_value"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:text/plain;base64,aa"}}]}]},
     "messages[0].content[0].image_url", "invalid_image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}}]}]},
     "messages[0].content[0].image_url", "invalid_base64"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
     "messages[0].content[0].image_url", "invalid_image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}]}]},
     "messages", "invalid_image_url"),
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": "0"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"n": 0}, "n", "invalid_value"), ({"n": 1000}, "n", "invalid_value"), ({"n": 1.5}, "n", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"stop": ["a", 1]}, "stop[1]", "invalid_type"), ({"stop": [""]}, "stop", "invalid_value"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [TOOL, TOOL]}, "tools", "invalid_value"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "invalid_value"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format.json_schema.schema",
     "missing_required_parameter"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}}}},
     "response_format.json_schema.schema", "invalid_json_schema"),
])
def test_what_is_wrong_is_named(http: httpx.Client, body: dict[str, Any], param: str, code: str) -> None:
    refused = chat(http, **body)
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error"), error


def test_a_schema_may_not_be_a_mine(http: httpx.Client) -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}}
    refused = chat(http, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_json_schema")


def test_what_is_not_there(http: httpx.Client) -> None:
    for method, path, status, code in (("GET", "/v1/nonesuch", 404, "unknown_url"), ("GET", "/v1/embeddings", 405, "method_not_supported"),
                                       ("GET", "/v1/models/nonesuch", 404, "model_not_found"),
                                       ("GET", "/v1/models/bundled/nonesuch", 404, "model_not_found"),
                                       ("GET", "/v1/images/files/..%2F..%2Fmadang.toml", 404, None)):
        refused = http.request(method, path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, code), path
    assert http.get("/v1/" + "a/" * 20).status_code == 404
    numbers = http.get("/metrics").text
    assert 'route="/v1/{part0}"' in numbers       # whatever a caller makes up is one line
    assert "nonesuch" not in numbers
    assert http.get("/v1/models/bundled%2Freader").json()["id"] == "bundled/reader"
    assert http.post("/v1/chat/completions", content=b"{").status_code == 400
    assert chat(http, model="bundled/minilm").status_code == 404
    assert chat(http, model="text-embedding-3-small").status_code == 400


# --- through to a service ---


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[ServiceStub, httpx.Client]]:
    with proxied(tmp_path / "ws") as both:
        yield both


def test_everything_is_passed_on(service: tuple[ServiceStub, httpx.Client]) -> None:
    stub, http = service
    stub.chat(answer("ok"))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw==", "detail": "low"}}
    messages = [{"role": "developer", "content": "Be brief."},
                {"role": "user", "name": "kim", "content": [{"type": "text", "text": "What?"}, picture]},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c1", "content": "Sunny."}]
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}, "strict": True}}
    said = chat(http, messages=messages, temperature=0.5, top_p=0.9, seed=7, stop=["END"], max_completion_tokens=9, tools=[TOOL],
                tool_choice="required", parallel_tool_calls=False, response_format=schema, logprobs=True, top_logprobs=2,
                presence_penalty=0.5, logit_bias={"5": 1}, reasoning_effort="low", user="u")
    assert said.json()["choices"][0]["message"]["content"] == "ok"
    assert said.json()["model"] == "local/tiny"
    assert said.json()["usage"] == {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    sent = stub.sent()[0].json
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, *messages[1:]]
    assert sent == {
        "model": "tiny", "messages": sent["messages"], "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"], "max_tokens": 9,
        "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False, "response_format": schema, "logprobs": True,
        "top_logprobs": 2, "presence_penalty": 0.5, "logit_bias": {"5": 1}, "reasoning_effort": "low", "user": "u", "stream": True,
        "stream_options": {"include_usage": True}}


def test_what_nobody_asked_is_not_sent(service: tuple[ServiceStub, httpx.Client]) -> None:
    stub, http = service
    stub.chat(answer("ok"))
    chat(http)
    assert set(stub.sent()[0].json) == {"model", "messages", "stream", "stream_options"}


def test_calls_and_logprobs_come_through(service: tuple[ServiceStub, httpx.Client]) -> None:
    stub, http = service
    call = {"index": 0, "id": "c9", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    stub.chat(stream(chunk(role="assistant"), chunk(tool_calls=[call]),
                     chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"ci'}}]),
                     chunk(tool_calls=[{"index": 0, "function": {"arguments": 'ty": "Oslo"}'}}]), chunk(finish="tool_calls"), DONE))
    found = events(chat(http, messages=SEOUL, tools=[TOOL], stream=True).text)
    pieces = [piece for event in found for piece in event["choices"][0]["delta"].get("tool_calls", [])]
    assert pieces[0] == {"index": 0, "id": "c9", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"city": "Oslo"}'
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"
    logprobs = {"content": [{"token": "ok", "logprob": -0.5, "top_logprobs": [{"token": "no", "logprob": -2.0}]}]}
    stub.chat(Reply(json={"choices": [{"index": 0, "message": {"content": "ok"}, "logprobs": logprobs, "finish_reason": "stop"}]}))
    told = chat(http, logprobs=True, top_logprobs=1).json()["choices"][0]["logprobs"]["content"][0]
    assert (told["token"], told["logprob"], told["top_logprobs"][0]["token"], told["bytes"]) == ("ok", -0.5, "no", [111, 107])


def test_pieces_are_passed_on_as_they_come(service: tuple[ServiceStub, httpx.Client]) -> None:
    """The service says its second word only after the caller has the first."""
    stub, http = service
    heard = threading.Event()

    def wait() -> None:
        assert heard.wait(10)

    stub.chat(stream(chunk("one"), wait, chunk("two"), chunk(finish="stop"), DONE))
    with http.stream("POST", "/v1/chat/completions", json={"model": "gpt-4o", "messages": ASK, "stream": True}) as response:
        for line in response.iter_lines():
            if '"content": "one"' in line:
                heard.set()
            if '"content": "two"' in line:
                break


def test_who_hangs_up_stops_the_service(service: tuple[ServiceStub, httpx.Client]) -> None:
    """Also while the service says nothing: its connection is shut down, not waited for."""
    stub, http = service
    going = threading.Event()

    def wait() -> None:
        assert going.wait(20)

    stub.chat(stream(chunk("one"), wait, *([chunk("x" * 10_000)] * 20_000)))
    with http.stream("POST", "/v1/chat/completions", json={"model": "gpt-4o", "messages": ASK, "stream": True}) as response:
        next(response.iter_lines())
    going.set()
    assert stub.gone.wait(20)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_who_hangs_up_before_a_whole_answer_stops_the_service(service: tuple[ServiceStub, httpx.Client], path: str) -> None:
    stub, http = service
    asked, going = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        assert going.wait(20)

    stub.chat(stream(chunk("one"), wait, *([chunk("x" * 10_000)] * 20_000)))
    connection = HTTPConnection(http.base_url.host, http.base_url.port)
    connection.request("POST", path, json.dumps({"model": "gpt-4o", "messages": ASK, "input": "x"}))
    assert asked.wait(20)
    connection.close()
    going.set()
    assert stub.gone.wait(20)


@pytest.mark.parametrize(("reply", "status", "code"), [
    (Reply(429, json={"error": {"message": "slow down", "code": "rate_limit_exceeded"}}), 429, "rate_limit_exceeded"),
    (Reply(401, json={"error": {"message": "bad key"}}), 502, None),
    (Reply(404, json={"error": {"message": "no such", "code": "model_not_found"}}), 404, "model_not_found"),
    (Reply(400, json={"error": {"message": "context length exceeded"}}), 400, None),
    (Reply(500, json={"error": {"message": "broken"}}), 502, None),
])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_service_that_fails(service: tuple[ServiceStub, httpx.Client], reply: Reply, status: int, code: str | None,
                              streamed: bool) -> None:
    stub, http = service
    stub.chat(reply)
    refused = chat(http, stream=streamed)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code), refused.text
    assert refused.headers.get("x-should-retry") == ("false" if status >= 500 else None)


def test_a_service_that_breaks_off(service: tuple[ServiceStub, httpx.Client]) -> None:
    stub, http = service
    stub.chat(stream(chunk("one"), cut=True))
    lines = [line for line in chat(http, stream=True).text.split("\n\n") if line]
    assert "broke" in json.loads(lines[-1].removeprefix("data: "))["error"]["message"]
    assert "[DONE]" not in lines[-1]


def test_text_completions(http: httpx.Client) -> None:
    prompt = f"{HANDBOOK}\n\nHow many vacation days do employees get?"
    said = http.post("/v1/completions", json={"model": "gpt-3.5-turbo-instruct", "prompt": prompt, "echo": True, "n": 2, "max_tokens": 99})
    assert [choice["text"] for choice in said.json()["choices"]] == [prompt + HANDBOOK] * 2
    for body, param in (({"prompt": None}, "prompt"), ({"prompt": [1, 2]}, "prompt"), ({"prompt": "a", "suffix": "b"}, "suffix"),
                        ({"prompt": "a", "best_of": 3}, "best_of"), ({"prompt": ["a"] * 9, "n": 9}, "n")):
        refused = http.post("/v1/completions", json={"model": "gpt-3.5-turbo-instruct", **body})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
