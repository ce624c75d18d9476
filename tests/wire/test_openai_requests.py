"""OpenAI's requests as our server reads them: what we send as a client we understand as a server, whatever it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.messages import (
    AnswerFormat,
    ChatOptions,
    Delta,
    Image,
    Logprob,
    Message,
    Tool,
    ToolCall,
    ToolCallPiece,
    Usage,
)
from madang.wire import openai, openai_answers, openai_messages
from madang.wire.openai_fields import MOST_DEPTH, Fields, Wrong, depth
from madang.wire.openai_responses import Telling, decode_items, decode_response_request
from madang.wire.openai_stores import decode_filter

TEXT = st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace").decode())
SOME = TEXT.filter(bool)
NAME = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
JSON = st.recursive(st.none() | st.booleans() | st.integers(-2**53, 2**53) | TEXT,
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8)
IMAGE = st.builds(Image, st.sampled_from(["image/png", "image/jpeg"]), st.binary(max_size=20), st.just(""), st.sampled_from(["", "low"]))
LINKED = st.builds(Image, url=st.sampled_from(["http://example.org/a.png", "https://example.org/"]))
CALL = st.builds(ToolCall, SOME, NAME, SOME)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    role = draw(st.sampled_from(["system", "user", "assistant", "tool"]))
    if role == "tool":
        return Message("tool", draw(TEXT), tool_call_id=draw(SOME))
    if role == "assistant":
        calls = tuple(draw(st.lists(CALL, max_size=2)))
        return Message("assistant", draw(TEXT), draw(TEXT), tool_calls=calls)
    parts = tuple(draw(st.lists(SOME | IMAGE | LINKED, max_size=3))) if role == "user" else ()
    if any(isinstance(part, Image) for part in parts):
        return Message("user", "".join(part for part in parts if isinstance(part, str)), draw(TEXT), parts)
    return Message(role, draw(TEXT), draw(TEXT))  # type: ignore[arg-type]


TOOL = st.builds(Tool, NAME, TEXT, st.dictionaries(SOME, JSON, max_size=3), st.none() | st.booleans())
FORMAT = st.none() | st.just(AnswerFormat()) | st.builds(
    AnswerFormat, st.builds(lambda more: {**more, "type": "object"}, st.dictionaries(SOME, JSON, max_size=3)), NAME, TEXT,
    st.none() | st.booleans())


@st.composite
def options(draw: st.DrawFn) -> ChatOptions:
    tools = tuple({tool.name: tool for tool in draw(st.lists(TOOL, max_size=3))}.values())
    choice = draw(st.sampled_from(["auto", "none", "required", "named"])) if tools else "auto"
    return ChatOptions(
        temperature=draw(st.none() | st.floats(0, 2)), max_tokens=draw(st.none() | st.integers(1, 10**6)),
        top_p=draw(st.none() | st.floats(0, 1)), stop=tuple(draw(st.lists(SOME, max_size=4))), seed=draw(st.none() | st.integers(0, 99)),
        presence_penalty=draw(st.none() | st.floats(-2, 2)), tools=tools, tool_choice=choice,  # type: ignore[arg-type]
        tool_name=draw(st.sampled_from([tool.name for tool in tools])) if choice == "named" else "",
        parallel_tool_calls=draw(st.none() | st.booleans()) if tools else None, answer_format=draw(FORMAT),
        logprobs=draw(st.none() | st.integers(0, 20)), reasoning_effort=draw(st.none() | st.just("low")),
        extra=draw(st.dictionaries(st.sampled_from(["logit_bias", "user", "top_k"]), st.integers(), max_size=2)))


@given(st.lists(messages(), min_size=1, max_size=4), options(), st.booleans())
def test_what_a_client_sends_a_server_understands(sent: list[Message], chosen: ChatOptions, stream: bool) -> None:
    body = json.loads(openai.to_bytes(openai_messages.encode_chat(sent, "m", chosen, stream=stream)))
    found = openai_messages.decode_chat_request(body)
    assert (found.model, found.stream, found.include_usage) == ("m", stream, stream)
    assert found.options == chosen
    assert found.messages == sent


def refusal(call: Callable[[], object]) -> Wrong | None:
    """Why it was refused; anything else than a refusal is a failure of the test."""
    try:
        call()
    except Wrong as wrong:
        return wrong
    return None


@given(st.dictionaries(st.sampled_from(["model", "messages", "tools", "tool_choice", "response_format", "n", "stop", "temperature",
                                        "functions", "function_call", "stream_options", "input", "text", "prompt", "metadata"]), JSON))
def test_whatever_comes_is_understood_or_refused_by_name(body: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "input": "x", "prompt": "x", **body}
    for decode in (openai_messages.decode_chat_request, decode_response_request, openai_messages.decode_text_request):
        wrong = refusal(lambda decode=decode: decode(body))  # type: ignore[misc]
        assert wrong is None or wrong.param


@given(JSON)
def test_any_filter_is_understood_or_refused(value: Any) -> None:
    for filter_ in (value, {"type": "and", "filters": value}, {"type": "in", "key": "k", "value": value}):
        wrong = refusal(lambda filter_=filter_: decode_filter(Fields(filter_, "filters")))  # type: ignore[misc]
        assert wrong is None or wrong.param.startswith("filters")


DELTAS = st.lists(st.builds(Delta, SOME) | st.builds(lambda text: Delta(refusal=text), SOME)
                  | st.builds(lambda text, logprob: Delta(text, logprobs=(Logprob(text, logprob, ((text, logprob),)),)), SOME, st.floats(-9, 0))
                  | st.builds(lambda index, text: Delta(tool_calls=(ToolCallPiece(index, f"c{index}", "f", text),)), st.integers(0, 2), SOME),
                  max_size=8)


@given(DELTAS, st.sampled_from([None, "stop", "length"]), st.integers(0, 99))
def test_chunks_lead_back_to_the_deltas(deltas: list[Delta], finish: str | None, tokens: int) -> None:
    """Our stream, read by our own client of the protocol."""
    deltas = [*deltas, Delta(finish_reason=finish, usage=Usage(tokens, 1))]
    chunks = openai_answers.Chunks("id", 1, "m", include_usage=True)
    whole = openai_answers.whole(deltas)
    sent = [chunks.opening(0), *(chunks.of(0, delta) for delta in deltas), chunks.closing(0, whole), chunks.end([whole])]
    read = openai_answers.whole(openai.decode_stream(sent))
    assert (read.text, read.refusal, read.usage, read.logprobs) == (whole.text, whole.refusal, Usage(tokens, 1), whole.logprobs)
    assert [(call.name, call.arguments) for call in read.tool_calls] == [(call.name, call.arguments) for call in whole.tool_calls]
    assert read.finish_reason == whole.finish
    told = openai_answers.completion("id", 1, "m", [whole])
    again = openai.decode_chat(json.loads(json.dumps(told)))
    assert (again.text, again.refusal, again.logprobs) == (whole.text, whole.refusal, tuple(whole.logprobs))


@given(DELTAS)
def test_events_lead_to_the_response_they_end_with(deltas: list[Delta]) -> None:
    count = iter(range(1000))
    telling = Telling("r", 1, "m", {}, lambda kind: f"{kind}{next(count)}")
    sent = [*telling.begin(), *(event for delta in deltas for event in telling.of(delta)), *telling.end(2)]
    events = [json.loads(data) for _, data in openai.read_events(sent)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == json.loads(json.dumps(telling.response))
    whole = openai_answers.whole(deltas)
    output = events[-1]["response"]["output"]
    for kind, text in (("output_text", whole.text), ("refusal", whole.refusal)):
        delta = "".join(event["delta"] for event in events if event["type"] == f"response.{kind}.delta")
        assert delta == text
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert sorted(item["id"] for item in done) == sorted(item["id"] for item in output)
    assert all(item in output for item in done)
    calls = [(item["name"], item["arguments"]) for item in output if item["type"] == "function_call"]
    assert sorted(calls) == sorted((call.name, call.arguments) for call in whole.tool_calls)
    heard = decode_items(output, "output")
    assert sum(len(message.tool_calls) for message in heard) == len(calls)


def test_depth_is_found_without_recursion() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert depth(deep) == MOST_DEPTH + 1
    assert depth({}) == 1
    assert depth({"a": [1]}) == 3


@pytest.mark.parametrize("url", ["data:image/png;base64,iVBORw==", "DATA:image/PNG;charset=x;base64,iVBORw=="])
def test_pictures_in_data_urls(url: str) -> None:
    assert openai_messages.image_of(url, "", "x") == Image("image/png", base64.b64decode("iVBORw=="))


@pytest.mark.parametrize("url", ["", "data:", "data:image/png,x", "data:text/html;base64,aa", "ftp://x/y", "/etc/passwd", "http://", "javascript:x"])
def test_what_is_no_picture(url: str) -> None:
    with pytest.raises(Wrong):
        openai_messages.image_of(url, "", "x")
