"""Responses over plain HTTP; how long they are kept, and for whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from madang.serve.openai_responses import Kept, _Kept
from tests.models.service_stub import DONE, answer, chunk, stream
from tests.serve.openai.proxied import proxied

HANDBOOK = "Employees get 25 days of paid vacation per year."
QUESTION = "How many vacation days do employees get?"
WEATHER = {"type": "function", "name": "get_weather", "description": "Get the current weather for a city.",
           "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def respond(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/responses", json={"model": "gpt-4o", "input": QUESTION, "instructions": HANDBOOK, **body})


def events(text: str) -> list[Any]:
    found = []
    for block in text.strip().split("\n\n"):
        name, _, data = block.partition("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_an_answer(http: httpx.Client) -> None:
    body = respond(http, metadata={"a": "b"}).json()
    assert (body["object"], body["status"], body["model"], body["metadata"]) == ("response", "completed", "bundled/reader", {"a": "b"})
    (item,) = body["output"]
    assert item["content"] == [{"type": "output_text", "text": HANDBOOK, "annotations": [], "logprobs": []}]
    assert http.get(f"/v1/responses/{body['id']}").json() == body
    items = http.get(f"/v1/responses/{body['id']}/input_items").json()["data"]
    assert [(each["role"], each["content"]) for each in items] == [("user", QUESTION)]
    assert http.delete(f"/v1/responses/{body['id']}").json()["deleted"] is True
    assert http.delete(f"/v1/responses/{body['id']}").status_code == 404
    unkept = respond(http, store=False).json()
    assert http.get(f"/v1/responses/{unkept['id']}").status_code == 404


def test_events_put_together_are_the_response(http: httpx.Client) -> None:
    found = events(respond(http, stream=True).text)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    text = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    assert text == HANDBOOK == found[-1]["response"]["output"][0]["content"][0]["text"]
    assert found[0]["response"]["output"] == []
    assert http.get(f"/v1/responses/{found[-1]['response']['id']}").json() == found[-1]["response"]


def test_a_refusal_is_told_as_one(http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}
    wanted = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
    found = events(respond(http, input="They meet.", text=wanted, stream=True).text)
    kinds = [event["type"] for event in found]
    assert "response.refusal.delta" in kinds
    assert "response.refusal.done" in kinds
    assert found[-1]["response"]["output"][0]["content"][0]["type"] == "refusal"


def test_what_was_said_before_counts(http: httpx.Client) -> None:
    first = respond(http, input=f"Please note: {HANDBOOK}", instructions=None).json()
    second = respond(http, instructions=None, previous_response_id=first["id"]).json()
    assert "25 days" in second["output"][0]["content"][0]["text"]
    refused = respond(http, previous_response_id="resp_nonesuch")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "previous_response_not_found")


def test_tools_there_and_back(tmp_path: Path) -> None:
    with proxied(tmp_path / "ws") as (stub, http):
        calls = [{"index": 0, "id": "c0", "function": {"name": "get_weather", "arguments": '{"city"'}},
                 {"index": 1, "id": "c1", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}]
        stub.chat(stream(chunk("Let me see. "), chunk(tool_calls=[calls[0]]), chunk(tool_calls=[calls[1]]),
                         chunk(tool_calls=[{"index": 0, "function": {"arguments": ': "Seoul"}'}}]), chunk(finish="tool_calls"), DONE),
                  answer("Fine."))
        first = respond(http, tools=[WEATHER], stream=True)
        output = events(first.text)[-1]["response"]["output"]
        assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
        assert [json.loads(item["arguments"])["city"] for item in output[1:]] == ["Seoul", "Oslo"]
        results = [{"type": "function_call_output", "call_id": item["call_id"], "output": "Sunny."} for item in output[1:]]
        previous = events(first.text)[-1]["response"]["id"]
        assert respond(http, input=results, previous_response_id=previous, tools=[WEATHER]).status_code == 200
        sent = stub.sent()[1].json["messages"]
        assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "tool"]
        assert [call["id"] for call in sent[2]["tool_calls"]] == ["c0", "c1"]
        assert sent[2]["content"] == "Let me see. "


def test_a_service_that_breaks_off(tmp_path: Path) -> None:
    with proxied(tmp_path / "ws") as (stub, http):
        stub.chat(stream(chunk("one"), cut=True))
        found = events(respond(http, stream=True).text)
        assert [event["type"] for event in found[-2:]] == ["error", "response.failed"]
        assert found[-1]["response"]["error"]["code"] == "server_error"
        assert http.get(f"/v1/responses/{found[0]['response']['id']}").status_code == 404
        stub.chat(stream(chunk("one"), chunk(finish="length"), DONE))
        cut = respond(http, max_output_tokens=1).json()
        assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.parametrize(("body", "param"), [
    ({"input": None}, "input"), ({"input": []}, "input"), ({"input": 3}, "input"), ({"model": None}, "model"),
    ({"input": [{"type": "computer_call"}]}, "input[0].type"), ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0].image_url"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tool_choice": "required"}, "tool_choice"),
    ({"background": True}, "background"), ({"conversation": "c"}, "conversation"), ({"prompt": {"id": "p"}}, "prompt"),
    ({"metadata": {"a": 1}}, "metadata"), ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"), ({"truncation": "some"}, "truncation"),
])
def test_what_is_wrong_is_named(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    refused = respond(http, **{"instructions": None, **body})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


def test_only_so_many_are_kept_each_for_its_key() -> None:
    kept = Kept(most=3, most_bytes=100)
    for number in range(5):
        kept.put("a", _Kept({"id": f"r{number}"}, [], [], 10))
    assert [kept.get("a", f"r{number}") is not None for number in range(5)] == [False, False, True, True, True]
    assert kept.get("b", "r4") is None
    assert not kept.remove("b", "r4")
    kept.put("a", _Kept({"id": "big"}, [], [], 95))
    assert kept.get("a", "r4") is None
    assert kept.get("a", "big") is not None
    assert kept.remove("a", "big")
    for number in range(3):
        kept.put("a", _Kept({"id": f"s{number}"}, [], [], 30))
    assert all(kept.get("a", f"s{number}") for number in range(3))
