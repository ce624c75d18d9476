"""OpenAI's dialect as our server answers it: completions, chunks, embeddings, models, errors; nouns to JSON.

Source: https://platform.openai.com/docs/api-reference (chat, completions, embeddings, models, images, errors).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from madang.base.messages import Delta, Logprob, ToolCall, ToolCallPiece, Usage

DONE = b"data: [DONE]\n\n"
_TYPES = {401: "invalid_request_error", 403: "permission_error", 404: "invalid_request_error", 429: "requests"}
_CODES = {401: "invalid_api_key", 413: "request_too_large", 429: "rate_limit_exceeded"}


@dataclass(slots=True)
class Whole:
    """An answer put together from its deltas, of one choice."""

    text: str = ""
    refusal: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    logprobs: list[Logprob] = field(default_factory=list)
    _calls: dict[int, list[str]] = field(default_factory=dict)     # by number: id, name, arguments

    def add(self, delta: Delta) -> None:
        """Take the next piece."""
        self.text += delta.text
        self.refusal += delta.refusal
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage
        self.logprobs += delta.logprobs
        for piece in delta.tool_calls:
            call = self._calls.setdefault(piece.index, ["", "", ""])
            call[0] = call[0] or piece.id
            call[1] = call[1] or piece.name
            call[2] += piece.arguments

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The calls in their order; one that came without an id is given one."""
        return [ToolCall(call[0] or f"call_{number}", call[1], call[2] or "{}")
                for number, call in sorted(self._calls.items())]

    @property
    def finish(self) -> str:
        """Why it ended, in the protocol's words: services say "stop" or nothing where calls are."""
        if self._calls and self.finish_reason in (None, "stop"):
            return "tool_calls"
        return self.finish_reason or "stop"


def whole(deltas: Iterable[Delta]) -> Whole:
    """All of an answer."""
    found = Whole()
    for delta in deltas:
        found.add(delta)
    return found


# --- chat completions ---


def completion(id_: str, created: int, model: str, answers: Sequence[Whole], *,
               functions: bool = False) -> dict[str, Any]:
    """The answer of POST /chat/completions. `functions`: calls are told as they were before there were tools."""
    choices = [{"index": number, "message": _message(answer, functions),
                "logprobs": _logprobs(answer.logprobs),
                "finish_reason": _finish(answer.finish, functions)} for number, answer in enumerate(answers)]
    return {"id": id_, "object": "chat.completion", "created": created, "model": model, "choices": choices,
            "usage": usage(answers), "system_fingerprint": None}


def _message(answer: Whole, functions: bool) -> dict[str, Any]:
    calls = answer.tool_calls
    told: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if calls or answer.refusal else ""),
                            "refusal": answer.refusal or None}
    if calls and functions:
        told["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        told["tool_calls"] = [{"id": call.id, "type": "function",
                               "function": {"name": call.name, "arguments": call.arguments}} for call in calls]
    return told


def _finish(reason: str, functions: bool) -> str:
    return "function_call" if functions and reason == "tool_calls" else reason


def _logprobs(tokens: Sequence[Logprob]) -> dict[str, Any] | None:
    if not tokens:
        return None
    return {"content": [{**_token(each.token, each.logprob),
                         "top_logprobs": [_token(*other) for other in each.top]} for each in tokens], "refusal": None}


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}


def usage(answers: Sequence[Whole]) -> dict[str, int]:
    """What all choices cost together. What a service did not tell counts as nothing."""
    total = sum((answer.usage for answer in answers if answer.usage is not None), Usage())
    return {"prompt_tokens": total.prompt_tokens, "completion_tokens": total.completion_tokens,
            "total_tokens": total.total_tokens}


class Chunks:
    """The events of a streamed answer, of one or several choices."""

    def __init__(self, id_: str, created: int, model: str, *, include_usage: bool = False,
                 functions: bool = False) -> None:
        self._head = {"id": id_, "object": "chat.completion.chunk", "created": created, "model": model,
                      "system_fingerprint": None}
        self._include_usage, self._functions = include_usage, functions

    def opening(self, choice: int) -> bytes:
        """Who speaks."""
        return self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})

    def of(self, choice: int, delta: Delta) -> bytes:
        """A piece; empty where it says nothing."""
        told: dict[str, Any] = {}
        if delta.text:
            told["content"] = delta.text
        if delta.refusal:
            told["refusal"] = delta.refusal
        if delta.tool_calls and self._functions:
            told["function_call"] = _function_piece(delta.tool_calls[0])
        elif delta.tool_calls:
            told["tool_calls"] = [_tool_piece(piece) for piece in delta.tool_calls]
        if not told and not delta.logprobs:
            return b""
        return self._chunk(choice, told, logprobs=_logprobs(delta.logprobs))

    def closing(self, choice: int, answer: Whole) -> bytes:
        """Why a choice ended."""
        return self._chunk(choice, {}, finish=_finish(answer.finish, self._functions))

    def end(self, answers: Sequence[Whole]) -> bytes:
        """What it cost, where asked for, and the end of the stream."""
        if not self._include_usage:
            return DONE
        return event({**self._head, "choices": [], "usage": usage(answers)}) + DONE

    def _chunk(self, choice: int, delta: dict[str, Any], *, finish: str | None = None,
               logprobs: dict[str, Any] | None = None) -> bytes:
        chunk = {**self._head, "choices": [{"index": choice, "delta": delta, "logprobs": logprobs,
                                            "finish_reason": finish}]}
        return event({**chunk, "usage": None} if self._include_usage else chunk)


def _tool_piece(piece: ToolCallPiece) -> dict[str, Any]:
    told: dict[str, Any] = {"index": piece.index, "function": _function_piece(piece)}
    if piece.id or piece.name:
        told |= {"id": piece.id or f"call_{piece.index}", "type": "function"}
    return told


def _function_piece(piece: ToolCallPiece) -> dict[str, str]:
    return {**({"name": piece.name} if piece.name else {}), "arguments": piece.arguments}


def event(content: Mapping[str, Any], name: str = "") -> bytes:
    """A server-sent event of JSON."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(content, ensure_ascii=False)}\n\n".encode("utf-8", "replace")


# --- the rest ---


def text_completion(id_: str, created: int, model: str, answers: Sequence[Whole],
                    echoes: Sequence[str] | None = None) -> dict[str, Any]:
    """The answer of POST /completions; each text after its echo, where there are any."""
    choices = [{"index": number, "text": (echoes[number] if echoes else "") + answer.text, "logprobs": None,
                "finish_reason": answer.finish} for number, answer in enumerate(answers)]
    return {"id": id_, "object": "text_completion", "created": created, "model": model, "choices": choices,
            "usage": usage(answers)}


def text_chunk(id_: str, created: int, model: str, choice: int, text: str, finish: str | None = None) -> bytes:
    """A piece of a streamed text completion."""
    return event({"id": id_, "object": "text_completion", "created": created, "model": model, "choices": [
        {"index": choice, "text": text, "logprobs": None, "finish_reason": finish}]})


def embeddings(model: str, vectors: Sequence[Any], tokens: int = 0) -> dict[str, Any]:
    """The answer of POST /embeddings; a vector is a list of numbers or base64 of little-endian float32."""
    data = [{"object": "embedding", "index": number, "embedding": vector} for number, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def model(name: str, created: int, owner: str) -> dict[str, Any]:
    """One model of GET /models."""
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def listing(data: Sequence[Mapping[str, Any]], *, more: bool | None = None) -> dict[str, Any]:
    """A list of things; with `more` told, a page of them."""
    found: dict[str, Any] = {"object": "list", "data": list(data)}
    if more is not None:
        found |= {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None,
                  "has_more": more}
    return found


def error(status: int, message: str, *, code: str = "", param: str = "") -> dict[str, Any]:
    """An error body, from which the official clients make their exceptions."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param or None,
                      "code": code or _CODES.get(status)}}
