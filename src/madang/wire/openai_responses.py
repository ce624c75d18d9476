"""OpenAI's responses: what a caller asks, and the events in which an answer is told.

Source: https://platform.openai.com/docs/api-reference/responses and .../responses-streaming.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from madang.base.messages import ChatOptions, Delta, Image, Message, Tool, ToolCall, ToolChoice, Usage
from madang.wire.openai_answers import event
from madang.wire.openai_fields import MOST_DEPTH, Fields, Wrong, depth
from madang.wire.openai_messages import (
    MOST_MESSAGES,
    MOST_TOKENS,
    MOST_TOOLS,
    checked_tools,
    chosen,
    decode_format,
    decode_part,
    decode_tool,
)

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_MOST_METADATA = 16


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """What POST /responses was asked. `items` is the input as items; `echo` what the answer repeats of the request."""

    model: str
    items: list[dict[str, Any]]
    messages: list[Message]        # of the input alone
    instructions: str
    options: ChatOptions
    previous_id: str
    stream: bool
    store: bool
    echo: Mapping[str, Any] = field(default_factory=dict)


def decode_response_request(body: object) -> ResponseRequest:
    """What a caller asks. Raises `Wrong`, which names the field."""
    fields = Fields(body)
    for key, why in (("conversation", "conversations are not kept; send previous_response_id"),
                     ("prompt", "stored prompts are not known; send instructions and input")):
        if fields.has(key):
            raise Wrong(f"'{key}' is not supported: {why}.", param=key, code="unsupported_parameter")
    if fields.flag("background"):
        raise Wrong("'background' is not supported.", param="background", code="unsupported_parameter",
                    remedy="Leave it out, and stream.")
    given = fields.value.get("input")
    if given is None:
        raise fields.missing("input")
    items = ([{"type": "message", "role": "user", "content": given}] if isinstance(given, str)
             else fields.items("input", most=MOST_MESSAGES))
    tools = _tools(fields)
    choice, name, offered = _tool_choice(fields, tools)
    text, alternatives = fields.inner("text"), fields.whole("top_logprobs", 0, 20) or 0
    options = ChatOptions(
        temperature=fields.number("temperature", 0, 2), top_p=fields.number("top_p", 0, 1),
        max_tokens=fields.whole("max_output_tokens", 1, MOST_TOKENS), tools=offered, tool_choice=choice, tool_name=name,
        parallel_tool_calls=fields.flag("parallel_tool_calls") if fields.has("parallel_tool_calls") else None,
        answer_format=decode_format(text.inner("format")) if text.has("format") else None,
        logprobs=alternatives if "message.output_text.logprobs" in fields.texts("include", most=64) else None,
        reasoning_effort=fields.inner("reasoning").text("effort", "") or None)
    return ResponseRequest(fields.text("model"), items, decode_items(items, "input"), fields.text("instructions", ""),
                           options, fields.text("previous_response_id", ""), fields.flag("stream"),
                           fields.flag("store", True), _echo(fields))


def _echo(fields: Fields) -> dict[str, Any]:
    metadata = fields.inner("metadata").value
    if len(metadata) > _MOST_METADATA or not all(isinstance(value, str) for value in metadata.values()):
        raise fields.wrong("metadata", f"at most {_MOST_METADATA} texts")
    found = {key: copy.deepcopy(fields.value[key]) for key in ("tool_choice", "tools", "text") if fields.has(key)}
    if depth(found) > MOST_DEPTH + 8:
        raise fields.wrong("text", "something less deep")
    plain = {"parallel_tool_calls": fields.flag("parallel_tool_calls", True), "top_p": fields.value.get("top_p"),
             "temperature": fields.value.get("temperature"), "instructions": fields.text("instructions", "") or None,
             "max_output_tokens": fields.value.get("max_output_tokens"), "metadata": metadata,
             "previous_response_id": fields.text("previous_response_id", "") or None,
             "truncation": fields.choice("truncation", ("auto", "disabled"), "disabled"),
             "user": fields.text("user", "") or None, "store": fields.flag("store", True),
             "reasoning": {"effort": fields.inner("reasoning").text("effort", "") or None, "summary": None}}
    return {"tool_choice": "auto", "tools": [], "text": {"format": {"type": "text"}}, **plain, **found}


def _tools(fields: Fields) -> tuple[Tool, ...]:
    found = []
    for tool in fields.objects("tools", most=MOST_TOOLS):
        if tool.text("type") != "function":
            raise Wrong(f"Invalid value for '{tool.path('type')}': tools of type {tool.text('type')!r:.60} are not "
                        "offered here.", param=tool.path("type"), code="invalid_value", remedy="Send functions.")
        found.append(decode_tool(tool))
    return checked_tools(found)


def _tool_choice(fields: Fields, tools: tuple[Tool, ...]) -> tuple[ToolChoice, str, tuple[Tool, ...]]:
    value = fields.value.get("tool_choice")
    if not isinstance(value, dict) or value.get("type") != "allowed_tools":
        return *chosen(fields, "tool_choice", tools), tools
    inner = fields.inner("tool_choice")
    allowed = {tool.text("name") for tool in inner.objects("tools")}
    kept = tuple(tool for tool in tools if tool.name in allowed)
    choice: ToolChoice = "required" if inner.choice("mode", ("auto", "required"), "auto") == "required" else "auto"
    return choice, "", kept


def decode_items(items: list[Any], where: str) -> list[Message]:
    """Items of an input, or of an earlier output, as messages; calls that follow each other are one message's."""
    found: list[Message] = []
    for item in (Fields(each, f"{where}[{number}]") for number, each in enumerate(items)):
        kind = item.text("type", "message")
        if kind == "message":
            found.append(_message(item))
        elif kind == "function_call":
            call = ToolCall(item.text("call_id"), item.text("name"), item.text("arguments", "{}"))
            if found and found[-1].role == "assistant":
                last = found.pop()
                found.append(Message("assistant", last.content, tool_calls=(*last.tool_calls, call)))
            else:
                found.append(Message("assistant", "", tool_calls=(call,)))
        elif kind == "function_call_output":
            found.append(Message("tool", _output(item), tool_call_id=item.text("call_id")))
        elif kind != "reasoning":          # thoughts of a model that are nobody else's
            raise Wrong(f"Invalid value for '{item.path('type')}': items of type {kind!r:.60} are not taken.",
                        param=item.path("type"), code="invalid_value")
    return found


def _message(item: Fields) -> Message:
    role = _ROLES.get(item.text("role"))
    if role is None:
        raise item.wrong("role", f"one of {', '.join(map(repr, _ROLES))}")
    content = item.value.get("content")
    if isinstance(content, str):
        return Message(role, content)  # type: ignore[arg-type]
    if not isinstance(content, list):
        raise item.wrong_type(item.path("content"), "a string or an array of parts", content)
    parts = [decode_part(part) for part in item.objects("content")]
    text = "".join(part for part in parts if isinstance(part, str))
    pictures = any(isinstance(part, Image) for part in parts)
    return Message(role, text, parts=tuple(parts) if pictures else ())  # type: ignore[arg-type]


def _output(item: Fields) -> str:
    """Of a tool: text, or parts of which the text counts."""
    if isinstance(item.value.get("output"), list):
        return "".join(part for part in map(decode_part, item.objects("output")) if isinstance(part, str))
    return item.text("output")


# --- the answer ---


class Telling:
    """An answer as it comes: deltas in, events out; `response` is what it has become.

    `name` makes the id of a new item from its kind.
    """

    def __init__(self, id_: str, created: int, model: str, echo: Mapping[str, Any], name: Callable[[str], str]) -> None:
        self.response: dict[str, Any] = {
            "id": id_, "object": "response", "created_at": created, "status": "in_progress", "background": False,
            "completed_at": None, "error": None, "incomplete_details": None, "model": model, "output": [], **echo,
            "usage": None}
        self._name = name
        self._number = -1
        self._text: dict[str, Any] | None = None           # the message that is being told
        self._calls: dict[int, dict[str, Any]] = {}
        self._usage, self._finish = Usage(), ""

    def begin(self) -> Iterator[bytes]:
        """The first two events."""
        yield self._event("response.created", response=self.response)
        yield self._event("response.in_progress", response=self.response)

    def of(self, delta: Delta) -> Iterator[bytes]:
        """The events of a delta."""
        self._usage, self._finish = delta.usage or self._usage, delta.finish_reason or self._finish
        if delta.refusal:
            yield from self._part("refusal")
            yield from self._piece("refusal", delta.refusal)
        if delta.text:
            yield from self._part("output_text")
            yield from self._piece("text", delta.text, delta)
        for piece in delta.tool_calls:
            if piece.index not in self._calls:
                yield from self._close_text()
                item = {"id": self._name("fc"), "type": "function_call", "status": "in_progress", "arguments": "",
                        "call_id": piece.id or self._name("call"), "name": piece.name}
                self._calls[piece.index] = item
                yield from self._added(item)
            item = self._calls[piece.index]
            item["name"] = item["name"] or piece.name
            if piece.arguments:
                item["arguments"] += piece.arguments
                yield self._event("response.function_call_arguments.delta", item_id=item["id"],
                                  output_index=self._place(item), delta=piece.arguments)

    def end(self, now: int) -> Iterator[bytes]:
        """The last events."""
        yield from self._close_text()
        for item in self._calls.values():
            item["status"] = "completed"
            item["arguments"] = item["arguments"] or "{}"
            yield self._event("response.function_call_arguments.done", item_id=item["id"], name=item["name"],
                              output_index=self._place(item), arguments=item["arguments"])
            yield self._event("response.output_item.done", output_index=self._place(item), item=item)
        why = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(self._finish)
        self.response |= {"status": "incomplete" if why else "completed", "usage": _usage(self._usage),
                          "incomplete_details": {"reason": why} if why else None, "completed_at": None if why else now}
        yield self._event(f"response.{self.response['status']}", response=self.response)

    def fail(self, message: str) -> Iterator[bytes]:
        """The last events where the answer broke off."""
        self.response |= {"status": "failed", "error": {"code": "server_error", "message": message}}
        yield self._event("error", code="server_error", message=message, param=None)
        yield self._event("response.failed", response=self.response)

    def _part(self, kind: str) -> Iterator[bytes]:
        """See that the open message has an open part of this kind."""
        if self._text is not None and self._text["content"][0]["type"] != kind:
            yield from self._close_text()
        if self._text is None:
            self._text = {"id": self._name("msg"), "type": "message", "status": "in_progress", "role": "assistant",
                          "content": []}
            yield from self._added(self._text)
            part = ({"type": "refusal", "refusal": ""} if kind == "refusal" else
                    {"type": "output_text", "text": "", "annotations": [], "logprobs": []})
            self._text["content"].append(part)
            yield self._within("response.content_part.added", part=part)

    def _piece(self, key: str, text: str, delta: Delta | None = None) -> Iterator[bytes]:
        part = self._open()["content"][0]
        part[key] += text
        if delta is None:
            yield self._within("response.refusal.delta", delta=text)
            return
        logprobs = [{"token": each.token, "logprob": each.logprob, "bytes": list(each.token.encode("utf-8", "replace")),
                     "top_logprobs": [{"token": token, "logprob": logprob,
                                       "bytes": list(token.encode("utf-8", "replace"))} for token, logprob in each.top]}
                    for each in delta.logprobs]
        part["logprobs"] += logprobs
        yield self._within("response.output_text.delta", delta=text, logprobs=logprobs)

    def _close_text(self) -> Iterator[bytes]:
        if self._text is None:
            return
        item, part = self._text, self._text["content"][0]
        item["status"] = "completed"
        if part["type"] == "refusal":
            yield self._within("response.refusal.done", refusal=part["refusal"])
        else:
            yield self._within("response.output_text.done", text=part["text"], logprobs=part["logprobs"])
        yield self._within("response.content_part.done", part=part)
        yield self._event("response.output_item.done", output_index=self._place(item), item=item)
        self._text = None

    def _added(self, item: dict[str, Any]) -> Iterator[bytes]:
        self.response["output"].append(item)
        yield self._event("response.output_item.added", output_index=self._place(item), item=item)

    def _open(self) -> dict[str, Any]:
        assert self._text is not None
        return self._text

    def _place(self, item: dict[str, Any]) -> int:
        return next(place for place, each in enumerate(self.response["output"]) if each is item)

    def _within(self, kind: str, **said: Any) -> bytes:
        item = self._open()
        return self._event(kind, item_id=item["id"], output_index=self._place(item), content_index=0, **said)

    def _event(self, kind: str, **said: Any) -> bytes:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number, **said}, kind)


def _usage(told: Usage) -> dict[str, Any]:
    return {"input_tokens": told.prompt_tokens, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": told.completion_tokens, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": told.total_tokens}


def size(content: Any) -> int:
    """Bytes that something takes as JSON."""
    return len(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"))
