"""The dialect against what servers really send, and against any way the network may cut it."""

from __future__ import annotations

import base64
import json
from array import array
from itertools import pairwise
from typing import Any

import httpx
import httpx_sse
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from madang.base.messages import ChatOptions, Delta, Message, Usage
from madang.wire import openai, openai_messages
from tests.wire import openai_samples as samples


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def pieces_of(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


# --- requests ---


def test_a_chat_request_says_everything() -> None:
    messages = [Message("system", "Be brief."), Message("user", "연차는 며칠?")]
    body = openai_messages.encode_chat(messages, "tiny-1", ChatOptions(temperature=0.0, max_tokens=64))
    assert json.loads(openai.to_bytes(body)) == {
        "model": "tiny-1", "temperature": 0.0, "max_tokens": 64, "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "연차는 며칠?"}],
    }
    assert "연차는".encode() in openai.to_bytes(body)   # not escaped to twice its size


def test_what_was_not_asked_for_is_not_sent() -> None:
    body = openai_messages.encode_chat([Message("user", "?")], "m", ChatOptions(temperature=0.5, max_tokens=None), stream=False)
    assert set(body) == {"model", "messages", "temperature", "stream"}
    assert body["stream"] is False


def test_an_embeddings_request() -> None:
    assert openai.encode_embeddings(("a", "b"), "e") == {"model": "e", "input": ["a", "b"],
                                                         "encoding_format": "float"}


def test_half_a_surrogate_pair_does_not_stop_a_request() -> None:
    assert json.loads(openai.to_bytes({"input": ["a\ud83d!"]})) == {"input": ["a?!"]}


@pytest.mark.parametrize(("failure", "key"), [
    (openai.Failure("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                    "'max_completion_tokens' instead.", code="unsupported_parameter", param="max_tokens"),
     "max_tokens"),
    (openai.Failure("Unsupported value: 'temperature' does not support 0.0 with this model. Only the default "
                    "(1) value is supported.", code="unsupported_value", param="temperature"), "temperature"),
    (openai.Failure("[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra inputs "
                    "are not permitted'}]", type="BadRequestError"), "stream_options"),
    (openai.Failure("temperature must be at most 2", param="temperature"), None),
    (openai.Failure("Unsupported value: 'messages[0].role' is 'system'", param="messages[0].role"), None),
    (openai.Failure("tools are not supported"), None),
])
def test_what_a_model_objects_to(failure: openai.Failure, key: str | None) -> None:
    body = openai_messages.encode_chat([Message("user", "?")], "o4", ChatOptions(temperature=0.0, max_tokens=64))
    assert openai.objection(body, failure) == key
    if key is not None:
        changed = openai.without(body, key)
        assert key not in changed
        assert openai.objection(changed, failure) is None, "or it would be tried for ever"
        assert changed.get("max_completion_tokens") == (64 if key == "max_tokens" else None)


# --- streamed answers ---


@pytest.mark.parametrize(("body", "text", "finish", "usage", "model"), [
    (samples.OPENAI_STREAM, "연차는 15일입니다.", "stop", Usage(19, 9), "gpt-4o-mini-2024-07-18"),
    (samples.VLLM_STREAM, "Fifteen days.", "stop", Usage(31, 13), "Qwen/Qwen3-8B"),
    (samples.OLLAMA_STREAM, "Fifteen days.", "stop", Usage(32, 4), "llama3.2"),
    (samples.LLAMA_CPP_STREAM, "Fifteen days.", "length", Usage(43, 3), "qwen2.5-0.5b"),
], ids=["openai", "vllm", "ollama", "llama.cpp"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_streams_of_four_servers(body: str, text: str, finish: str, usage: Usage, model: str,
                                 newline: str) -> None:
    deltas = list(openai.decode_stream([body.replace("\n", newline).encode()]))
    assert text_of(deltas) == text
    assert deltas[-1] == Delta("", finish, usage, model)
    assert all(d.text and d.finish_reason is None and d.usage is None for d in deltas[:-1])


@settings(deadline=None)
@given(st.sampled_from([samples.OPENAI_STREAM, samples.LLAMA_CPP_STREAM]),
       st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 10_000), max_size=40))
def test_however_the_network_cuts_a_stream_it_says_the_same(body: str, newline: str, cuts: list[int]) -> None:
    encoded = body.replace("\n", newline).encode()
    whole = list(openai.decode_stream([encoded]))
    assert list(openai.decode_stream(pieces_of(encoded, cuts))) == whole


def test_one_byte_at_a_time() -> None:
    encoded = samples.OPENAI_STREAM.encode()
    deltas = list(openai.decode_stream(encoded[i:i + 1] for i in range(len(encoded))))
    assert text_of(deltas) == "연차는 15일입니다."


def test_a_delta_is_yielded_before_the_next_piece_is_asked_for() -> None:
    asked = 0

    def pieces() -> Any:
        nonlocal asked
        for event in samples.VLLM_STREAM.split("\n\n"):
            asked += 1
            yield f"{event}\n\n".encode()

    assert next(openai.decode_stream(pieces())).text == "Fifteen"
    assert asked == 3   # the role, the reasoning, the word


def test_nothing_is_read_after_done() -> None:
    def pieces() -> Any:
        yield samples.VLLM_STREAM.encode()
        pytest.fail("read on")

    assert list(openai.decode_stream(pieces()))


@pytest.mark.parametrize(("body", "phrase"), [
    (samples.OPENAI_STREAM[:900], "middle"),
    ("", "no answer"),
    ("data: [DONE]\n\n", "no answer"),
    (": ping\n\n", "no answer"),
    ("Just some text.\n", "no answer"),
    ('{"model":"m","response":"a","done":false}\n', "no answer"),
])
def test_a_stream_that_ends_too_early(body: str, phrase: str) -> None:
    with pytest.raises(openai.CutOff, match=phrase):
        list(openai.decode_stream([body.encode()]))


def test_what_came_before_the_cut_was_yielded() -> None:
    stream = openai.decode_stream([samples.OPENAI_STREAM.partition("15일")[0].encode()])
    assert next(stream).text == "연차는 "
    with pytest.raises(openai.CutOff):
        next(stream)


def test_done_or_a_finish_reason_is_enough() -> None:
    said = 'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    finished = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    assert list(openai.decode_stream([f"{said}data: [DONE]\n\n".encode()])) == [Delta("a"), Delta()]
    assert list(openai.decode_stream([f"{said}{finished}".encode()])) == [Delta("a"), Delta("", "stop")]
    assert list(openai.decode_stream([finished.encode()])) == [Delta("", "stop")], "an empty answer is one"
    for end in ("data: [DONE]", "data: [DONE]\n", "data: [DONE]\r"):   # llama.cpp sends no blank line
        assert list(openai.decode_stream([said.encode(), end.encode()])) == [Delta("a"), Delta()]


def test_usage_and_finish_reason_are_kept_until_the_end() -> None:
    early = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "length"}],
             "usage": {"prompt_tokens": 3, "completion_tokens": 1}, "model": "m"}
    late = {"choices": [{"index": 0, "delta": {}, "finish_reason": None}], "usage": None}
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in (early, late)) + "data: [DONE]\n\n"
    assert list(openai.decode_stream([body.encode()])) == [Delta("a", model="m"),
                                                           Delta("", "length", Usage(3, 1), "m")]


def test_bytes_that_are_no_text_become_a_sign_for_it() -> None:
    said = b'data: {"choices":[{"index":0,"delta":{"content":"a\xff"}}]}\n\ndata: [DONE]\n\n'
    assert next(openai.decode_stream([said])).text == "a\ufffd"


@pytest.mark.parametrize(("body", "message", "code"), [
    (samples.LLAMA_CPP_OLD_ERROR, "the request exceeds the available context size", "400"),
    ('data: {"error":{"code":503,"message":"busy","type":"unavailable_error"}}\n\n', "busy", "503"),
    ('event: error\ndata: {"code":400,"details":"too many"}\n\ndata: [DONE]\n\n', "too many", "400"),
    ('data: {"object":"error","message":"worker died","type":"InternalServerError","code":500}\n\n',
     "worker died", "500"),
    ('data: {"error":"an error was encountered while running the model"}\n\n', "an error was", ""),
    ("event: error\ndata: out of memory\n\n", "out of memory", ""),
])
def test_an_error_inside_a_stream(body: str, message: str, code: str) -> None:
    said = 'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"error":null}\n\n'
    stream = openai.decode_stream([said.encode(), body.encode()])
    assert next(stream).text == "a"
    with pytest.raises(openai.Refused, match=message) as caught:
        list(stream)
    assert caught.value.failure.code == code


@pytest.mark.parametrize("event", [
    "{", "[]", "1", "null", '"text"', "{}", '{"choices":{}}', '{"choices":[1]}', '{"choices":null}',
    '{"choices":[{"index":0,"delta":{"content":1}}]}', "[" * 5000,
])
def test_an_event_that_is_no_chunk(event: str) -> None:
    with pytest.raises(openai.Malformed) as caught:
        list(openai.decode_stream([f"data: {event}\n\ndata: [DONE]\n\n".encode()]))
    assert len(str(caught.value)) < 200


def test_a_line_without_end_is_not_collected_for_ever() -> None:
    with pytest.raises(openai.Malformed, match="16 MiB"):
        list(openai.decode_stream(b"data: " + b"x" * (6 << 20) for _ in range(1000)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["data", "event", "id", "retry", "", "other"]),
                          st.sampled_from(["", " ", "가나", "a b", "\u2028", "1"])), max_size=30),
       st.lists(st.booleans(), min_size=30, max_size=30), st.sampled_from(["\n", "\r\n", "\r"]),
       st.lists(st.integers(0, 400), max_size=8))
@example([("data", ""), ("data", "")], [False] * 30, "\r", [])            # ends with a CR, half of nothing
@example([("data", "1"), ("data", "2")], [False, True] * 15, "\r\n", [7])   # between CR and LF
def test_events_are_what_a_library_reads(fields: list[tuple[str, str]], ends: list[bool], newline: str,
                                         cuts: list[int]) -> None:
    lines = [f"{name}:{value}\n" + "\n" * end for (name, value), end in zip(fields, ends, strict=False)]
    body = ("".join(lines) + "\n").replace("\n", newline).encode()
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    # httpx-sse also hands out events without data, which the standard drops.
    expected = [event.data for event in httpx_sse.EventSource(response).iter_sse()]
    ours = [data for _, data in openai.read_events(pieces_of(body, cuts))]
    assert [d for d in ours if d] == [d for d in expected if d]


def test_a_byte_order_mark_and_no_space_are_allowed() -> None:
    assert list(openai.read_events([b"\xef\xbb\xbfdata:a\n\n"])) == [("", "a")]


# --- chunks ---


def test_only_the_first_choice_counts() -> None:
    chunk = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"},
                         {"index": 0, "delta": {"content": "yes"}, "finish_reason": None}]}
    assert openai.decode_chunk(chunk) == Delta("yes")


@pytest.mark.parametrize(("chunk", "delta"), [
    ({"choices": [{"index": 0, "delta": {"role": "assistant"}}], "model": "m"}, Delta(model="m")),
    ({"choices": [{"index": 0, "delta": {"content": None}}]}, Delta()),
    ({"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}, Delta(finish_reason="stop")),
    ({"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]}, Delta()),
    ({"choices": [{"delta": {"content": "a"}}]}, Delta("a")),
    ({"choices": [{"index": 0, "delta": {"reasoning_content": "x", "reasoning": "y"}}]}, Delta()),
    ({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}}]}, Delta()),
    ({"choices": [{"index": 0, "delta": {"content": [{"type": "thinking", "thinking": []},
                                                     {"type": "text", "text": "a"}]}}]}, Delta("a")),
    ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, Delta(usage=Usage(3, 4))),
    ({"usage": {"prompt_tokens": 3}}, Delta(usage=Usage(3, 0))),
    ({"choices": [], "usage": {"prompt_tokens": None, "completion_tokens": "4"}}, Delta(usage=Usage(0, 0))),
    ({"choices": [], "usage": None}, Delta()),
])
def test_chunks_of_every_kind(chunk: dict[str, Any], delta: Delta) -> None:
    assert openai.decode_chunk(chunk) == delta


def test_a_whole_answer_is_one_delta() -> None:
    assert openai.decode_chat(samples.OPENAI_WHOLE) == Delta("Fifteen days.", "stop", Usage(19, 10),
                                                             "gpt-4.1-2025-04-14")


def test_a_whole_answer_without_choices_or_with_an_error() -> None:
    with pytest.raises(openai.Malformed, match="no choices"):
        openai.decode_chat({"choices": []})
    with pytest.raises(openai.Refused, match="busy"):
        openai.decode_chat({"error": {"message": "busy"}})


# --- embeddings and models ---


def embedded(*vectors: object, indices: list[int] | None = None) -> dict[str, Any]:
    return {"object": "list", "model": "e", "data": [
        {"object": "embedding", "index": indices[i] if indices else i, "embedding": vector}
        for i, vector in enumerate(vectors)]}


def test_embeddings_come_back_in_the_order_of_the_texts() -> None:
    found = openai.decode_embeddings(embedded([1, 2], [3, 4.5], [5, 6], indices=[2, 0, 1]), 3)
    assert [list(v) for v in found] == [[3, 4.5], [5, 6], [1, 2]]
    assert {v.typecode for v in found} == {"f"}


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3), min_size=1))
def test_base64_and_lists_say_the_same(rows: list[list[float]]) -> None:
    encoded = [base64.b64encode(array("f", row).tobytes()).decode() for row in rows]
    expected = openai.decode_embeddings(embedded(*rows), len(rows))
    assert openai.decode_embeddings(embedded(*encoded), len(rows)) == expected
    assert [list(v) for v in expected] == rows


def test_embeddings_without_indices_are_taken_in_order() -> None:
    assert openai.decode_embeddings({"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}, 2)[1][0] == 2.0


@pytest.mark.parametrize(("payload", "phrase"), [
    (embedded([1.0]), "1 embeddings for 2 texts"),
    (embedded([1.0], [2.0], indices=[0, 0]), "indices"),
    (embedded([1.0], [2.0], indices=[1, 2]), "indices"),
    (embedded([1.0], [2.0, 3.0]), "1 and 2 numbers"),
    (embedded([], []), "0 numbers"),
    (embedded([1.0], ["x"]), "not a list of numbers"),
    (embedded([1.0], None), "not a list of numbers"),
    (embedded("AAAA", "AAAA"), "base64"),
    (embedded("!", "!"), "base64"),
    ({"data": [{"index": "0", "embedding": [1]}, {"index": 1, "embedding": [1]}]}, "indices"),
    ({"data": [1, 2]}, "no list of embeddings"),
    ({"embedding": [1.0]}, "no list of embeddings"),
    ([], "no list of embeddings"),
])
def test_embeddings_that_are_none(payload: object, phrase: str) -> None:
    with pytest.raises(openai.Malformed, match=phrase):
        openai.decode_embeddings(payload, 2)


def test_an_error_in_place_of_embeddings() -> None:
    with pytest.raises(openai.Refused, match="busy"):
        openai.decode_embeddings({"error": {"message": "busy"}}, 1)


def test_names_of_models() -> None:
    assert openai.decode_models({"data": [{"id": "a"}, {"id": 1}, {"id": "b"}]}) == ["a", "b"]
    with pytest.raises(openai.Malformed):
        openai.decode_models({"models": []})


# --- errors ---


@pytest.mark.parametrize(("status", "body", "message", "kind", "retryable"), [e[1:] for e in samples.ERRORS],
                         ids=[e[0] for e in samples.ERRORS])
def test_errors_of_every_server(status: int, body: str, message: str, kind: str, retryable: bool) -> None:
    failure = openai.decode_failure(body)
    assert message in failure.message
    assert bool(message) == bool(failure.message)
    assert openai.classify(status, failure) == (kind, retryable)


@pytest.mark.parametrize(("failure", "expected"), [
    (openai.Failure("x", code="400"), ("protocol", False)),
    (openai.Failure("x", code="503"), ("server", True)),
    (openai.Failure("x", code="429"), ("rate_limit", True)),
    (openai.Failure("x", type="rate_limit_exceeded"), ("rate_limit", True)),
    (openai.Failure("x", type="invalid_request_error"), ("protocol", False)),
    (openai.Failure("x"), ("server", True)),
])
def test_errors_inside_a_stream_go_by_their_own_code(failure: openai.Failure,
                                                     expected: tuple[str, bool]) -> None:
    assert openai.classify(200, failure) == expected


@settings(deadline=None)
@given(st.text(max_size=2000) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["error", "message", "detail", "code", "type", "loc", "msg"]), inner, max_size=4),
    max_leaves=10).map(json.dumps))
def test_an_error_body_never_fails_and_its_message_is_one_printable_line(body: str) -> None:
    failure = openai.decode_failure(body)
    assert failure.message == failure.message.strip()
    assert failure.message.isprintable()
    assert len(failure.message) <= 400
    openai.classify(500, failure)


def test_a_message_cannot_drive_the_terminal() -> None:
    assert openai.decode_failure('{"error": "\\u001b[2Jgone\\nnext"}').message == "[2Jgone next"
