"""OpenAI's dialect as a service answers it: chat completions, embeddings, images, models and errors; JSON to nouns.

What is asked of one is in `openai_messages`, what our own server answers in `openai_answers`.

vLLM, Ollama, llama.cpp and most gateways speak it too, each with an accent; what is known of them is noted
where it is handled. Pure functions: no network library and no numpy, so client and server can share them.

Sources: https://platform.openai.com/docs/api-reference (chat, embeddings, models) and, for the framing of
streams, https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from madang.base.messages import Delta, Logprob, ToolCallPiece, Usage

DONE = "[DONE]"
_LONGEST_LINE_BYTES = 16 << 20   # a line of a stream; the longest honest ones are some kB
_LONGEST_MESSAGE = 400           # characters of an error message that are worth repeating
# A CR at the very end may be the first half of a CR LF, so it waits for the next piece.
_NEWLINE = re.compile(rb"\r\n|\n|\r(?=[^\n])")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class Malformed(ValueError):
    """What came is not this dialect; the message is a phrase that says where."""


class CutOff(Malformed):
    """A stream ended before its answer did."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error body says; a field is empty where it says nothing. `message` is one line."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""


class Refused(Exception):
    """An error came in place of an answer, under a status that promised one."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


# --- requests ---


def encode_embeddings(texts: Sequence[str], model: str) -> dict[str, Any]:
    """The body of POST /embeddings. Floats are asked for: not every server knows base64."""
    return {"model": model, "input": list(texts), "encoding_format": "float"}


def encode_images(prompt: str, model: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /images/generations; empty options are left to the service."""
    return {"model": model, "prompt": prompt, **{key: value for key, value in options.items() if value}}


def to_bytes(body: dict[str, Any]) -> bytes:
    """JSON in UTF-8; half a surrogate pair, as a broken PDF may yield, becomes "?" and no exception."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", errors="replace")


def objection(body: dict[str, Any], failure: Failure) -> str | None:
    """The key of `body` that this model does not take, or None if the service objects to something else.

    OpenAI's reasoning models refuse `max_tokens` and any `temperature` but 1; early vLLM and Mistral refuse
    `stream_options`.
    """
    said = f"{failure.code} {failure.type} {failure.message}".lower()
    if not re.search(r"unsupported|not support|extra_forbidden|not permitted|unrecognized", said):
        return None
    for key in ("max_tokens", "temperature", "stream_options"):
        named = failure.param.partition(".")[0] == key if failure.param else re.search(rf"\b{key}\b", said)
        if named and key in body:
            return key
    return None


def without(body: dict[str, Any], key: str) -> dict[str, Any]:
    """`body` for a service that objects to `key`; the token limit keeps holding under its newer name."""
    changed = {k: v for k, v in body.items() if k != key}
    if key == "max_tokens" and key in body:
        changed["max_completion_tokens"] = body[key]
    return changed


# --- answers ---


def decode_chunk(payload: object) -> Delta:
    """One chunk of a streamed answer: the choice with index 0, without reasoning.

    A chunk may carry only a role, only usage (with empty `choices`) or only a finish reason; its text is "".

    Raises:
        Refused: the chunk is an error.
        Malformed: it is not a chunk.
    """
    return _answer(payload, "delta")


def decode_chat(payload: object) -> Delta:
    """A whole answer (not streamed) as a single delta. Raises as `decode_chunk` does."""
    whole = _answer(payload, "message")
    if not (isinstance(payload, dict) and payload.get("choices")):
        raise Malformed("the answer has no choices")
    return whole


def _answer(payload: object, part: str) -> Delta:
    if not isinstance(payload, dict):
        raise Malformed(f"expected a JSON object, not {_excerpt(payload)}")
    if payload.get("error") or payload.get("object") == "error":
        raise Refused(_failure(payload))
    choices = payload.get("choices")
    if not isinstance(choices, list) and not (choices is None and "usage" in payload):
        raise Malformed(f"no list of choices in {_excerpt(payload)}")
    text, finish, refusal = "", None, ""
    calls, logprobs = list[ToolCallPiece](), list[Logprob]()
    for choice in choices or []:
        if not isinstance(choice, dict):
            raise Malformed(f"a choice is {_excerpt(choice)}")
        if choice.get("index") in (0, None):
            message = choice.get(part)
            text += _content(message)
            calls += _calls(message)
            logprobs += _logprobs(choice.get("logprobs"))
            said = message.get("refusal") if isinstance(message, dict) else None
            refusal += said if isinstance(said, str) else ""
            reason = choice.get("finish_reason")
            finish = reason if isinstance(reason, str) and reason else finish
    return Delta(text, finish, _usage(payload.get("usage")), _word(payload.get("model")) or None, tuple(calls),
                 tuple(logprobs), refusal)


def _calls(message: object) -> Iterator[ToolCallPiece]:
    """Of `tool_calls`; services leave `index` out where a call comes whole."""
    found = message.get("tool_calls") if isinstance(message, dict) else None
    if found is None:
        return
    if not isinstance(found, list):
        raise Malformed(f"tool_calls are {_excerpt(found)}")
    for place, call in enumerate(found):
        function = (call.get("function") or {}) if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise Malformed(f"a tool call is {_excerpt(call)}")
        index, arguments = call.get("index"), function.get("arguments")
        if isinstance(arguments, dict):        # Ollama sent an object in its early versions
            arguments = json.dumps(arguments, ensure_ascii=False)
        piece = ToolCallPiece(index if isinstance(index, int) and index >= 0 else place, _word(call.get("id")),
                              _word(function.get("name")), arguments if isinstance(arguments, str) else "")
        if piece.id or piece.name or piece.arguments:
            yield piece


def _logprobs(payload: object) -> Iterator[Logprob]:
    tokens = payload.get("content") if isinstance(payload, dict) else None
    for token in tokens if isinstance(tokens, list) else []:
        if isinstance(token, dict) and isinstance(token.get("logprob"), int | float):
            top = token.get("top_logprobs")
            others = [other for other in (top if isinstance(top, list) else [])
                      if isinstance(other, dict) and isinstance(other.get("logprob"), int | float)]
            yield Logprob(str(token.get("token", "")), float(token["logprob"]),
                          tuple((str(other.get("token", "")), float(other["logprob"])) for other in others))


def _content(message: object) -> str:
    """Text, null, or a list of typed parts of which those of type "text" count (Mistral)."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = "".join(part["text"] for part in content
                          if isinstance(part, dict) and part.get("type") == "text"
                          and isinstance(part.get("text"), str))
    if content is None:
        return ""
    if not isinstance(content, str):
        raise Malformed(f"content is {_excerpt(content)}")
    return content


def _usage(payload: object) -> Usage | None:
    if not isinstance(payload, dict):
        return None
    counts = [payload.get(key) for key in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (n if isinstance(n, int) and n > 0 else 0 for n in counts)
    return Usage(prompt, completion)


def decode_stream(pieces: Iterable[bytes]) -> Iterator[Delta]:
    """A streamed answer, from the bytes of its body in whatever pieces they come.

    Yields each text as it arrives, and at last one delta with the finish reason and, where told, the usage
    (services send it in a chunk of its own, after the finish reason).

    Raises:
        Refused: the service sent an error in place of the rest.
        CutOff: the stream ended with neither a finish reason nor [DONE], or without saying anything.
        Malformed: an event is not a chunk.
    """
    finish: str | None = None
    usage: Usage | None = None
    model: str | None = None
    spoke = done = False
    for event, data in read_events(pieces):
        done = data.strip() == DONE
        if done:
            break
        if not data.strip():
            continue
        delta = _event(event, data)
        finish, usage, model = delta.finish_reason or finish, delta.usage or usage, delta.model or model
        if delta.text or delta.tool_calls or delta.logprobs or delta.refusal:
            spoke = True
            yield replace(delta, finish_reason=None, usage=None)
    if finish is None and not (done and spoke):
        raise CutOff("the stream ended in the middle of its answer" if spoke else "the stream held no answer")
    yield Delta("", finish, usage, model)


def _event(event: str, data: str) -> Delta:
    if event == "error":
        raise Refused(decode_failure(data))
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed(f"an event of the stream is not JSON: {_excerpt(data)}") from None
    return decode_chunk(payload)


def read_events(pieces: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Server-sent events as (name, data), the name "" where none was sent. `Malformed`: a line without end.

    The HTML standard with two concessions: a last event without its blank line counts if it is whole
    (llama.cpp ends with a bare `data: [DONE]`), and a field `error:` is an event of that name (llama.cpp
    through 2025 reports a prompt that is too long in this way).
    """
    rest, name, data = b"", "", list[str]()
    for piece in pieces:
        *lines, rest = _NEWLINE.split(rest + piece)
        if len(rest) > _LONGEST_LINE_BYTES:
            raise Malformed(f"a line of the stream is longer than {_LONGEST_LINE_BYTES >> 20} MiB")
        for line in lines:
            if line:
                name = _field(line, data) or name
                continue
            if data:
                yield name, "\n".join(data)
            name, data = "", []
    name = _field(rest.removesuffix(b"\r"), data) or name
    if data and (rest == b"\r" or data[-1].strip() == DONE or _is_json("\n".join(data))):
        yield name, "\n".join(data)


def _field(line: bytes, data: list[str]) -> str:
    """Take a line's data into `data`; the event's name if this line tells it."""
    field, _, value = line.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").partition(":")
    value = value.removeprefix(" ")
    if field in ("data", "error"):
        data.append(value)
    return value if field == "event" else "error" if field == "error" else ""


def decode_embeddings(payload: object, count: int) -> list[array[float]]:
    """The `count` vectors of an answer, float32, in the order of the inputs, whatever order they came in.

    Each vector may be a list of numbers or little-endian float32 in base64.

    Raises:
        Refused: the answer is an error.
        Malformed: not `count` vectors of one length greater than 0, or their indices are not 0 .. count - 1.
    """
    if isinstance(payload, dict) and (payload.get("error") or payload.get("object") == "error"):
        raise Refused(_failure(payload))
    data = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise Malformed(f"no list of embeddings in {_excerpt(payload)}")
    if len(data) != count:
        raise Malformed(f"{len(data)} embeddings for {count} texts")
    if any("index" in item for item in data):
        indices = [item.get("index") for item in data]
        if not all(isinstance(i, int) for i in indices) or sorted(indices) != list(range(count)):
            raise Malformed(f"the embeddings have the indices {_excerpt(indices)}, not 0 to {count - 1}")
        data = sorted(data, key=lambda item: int(item["index"]))
    vectors = [_vector(item.get("embedding")) for item in data]
    lengths = sorted({len(vector) for vector in vectors})
    if len(lengths) > 1 or 0 in lengths:
        raise Malformed(f"embeddings of {' and '.join(map(str, lengths))} numbers in one answer")
    return vectors


def _vector(value: object) -> array[float]:
    if isinstance(value, str):
        try:
            vector = array("f", base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            raise Malformed(f"an embedding is not float32 in base64: {_excerpt(value)}") from None
        if sys.byteorder == "big":
            vector.byteswap()
        return vector
    try:
        if not isinstance(value, list):
            raise TypeError
        return array("f", value)
    except (TypeError, OverflowError):
        raise Malformed(f"an embedding is not a list of numbers: {_excerpt(value)}") from None


def decode_images(payload: object) -> list[tuple[bytes, str, str]]:
    """Of each picture: its bytes, else its address, and the prompt it was made from where that was changed.

    Raises:
        Refused: the answer is an error.
        Malformed: it holds no pictures.
    """
    if isinstance(payload, dict) and payload.get("error"):
        raise Refused(_failure(payload))
    data = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(data, list) or not data or not all(isinstance(item, dict) for item in data):
        raise Malformed(f"no list of pictures in {_excerpt(payload)}")
    found = []
    for item in data:
        url, coded, prompt = item.get("url"), item.get("b64_json"), item.get("revised_prompt")
        try:
            picture = base64.b64decode(coded, validate=True) if isinstance(coded, str) else b""
        except (binascii.Error, ValueError):
            raise Malformed("a picture is not base64") from None
        if not picture and not isinstance(url, str):
            raise Malformed(f"a picture has neither b64_json nor url: {_excerpt(item)}")
        found.append((picture, url if isinstance(url, str) else "", prompt if isinstance(prompt, str) else ""))
    return found


def decode_models(payload: object) -> list[str]:
    """The names in an answer to GET /models. Raises `Malformed`."""
    data = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(data, list):
        raise Malformed(f"no list of models in {_excerpt(payload)}")
    return [item["id"] for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]


# --- errors ---


def decode_failure(body: str) -> Failure:
    """What an error body says, whoever wrote it.

    OpenAI, llama.cpp, Ollama's /v1: {"error": {"message", "type", "code", "param"}}; Ollama: {"error": ""};
    earlier vLLM: {"object": "error", "message", ...}; FastAPI: {"detail": "..." or [{"loc", "msg"}]};
    Gemini: a list of one such object; proxies: an HTML page (its title is taken), plain text, or nothing.
    """
    try:
        return _failure(json.loads(body))
    except (ValueError, RecursionError):
        if body.lstrip()[:1] == "<":
            title = _TITLE.search(body)
            return Failure(_line(title[1]) if title else "")
        return Failure(_line(body))


def _failure(payload: object) -> Failure:
    if isinstance(payload, list) and payload:
        payload = payload[0]
    if not isinstance(payload, dict):
        return Failure(_line(payload) if payload else "")
    inner = payload.get("error")
    if isinstance(inner, dict):
        payload = inner
    found = (payload[key] for key in ("message", "msg", "detail", "details", "error") if payload.get(key))
    said = _detail(next(found, payload or ""))
    kind, code, param = (payload.get(key) for key in ("type", "code", "param"))
    return Failure(said, _word(kind), _word(code), _word(param))


def _detail(value: object) -> str:
    """A message, or FastAPI's list of what is wrong where: "body.messages: Field required"."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return _line(value)
    said = []
    for item in value:
        loc = item.get("loc")
        where = ".".join(map(str, loc)) if isinstance(loc, list) else ""
        said.append(f"{where}: {item.get('msg', '')}" if where else str(item.get("msg", "")))
    return _line("; ".join(said))


def classify(status: int, failure: Failure) -> tuple[str, bool]:
    """(kind, retryable) in the words of `ServiceError`, from an HTTP status and its error body.

    Inside a stream the status was spent on 200 before things went wrong: the body's own code stands in.
    """
    said = f"{failure.code} {failure.type}".lower()
    if status < 400:
        numeric = failure.code if re.fullmatch(r"[45]\d\d", failure.code) else ""
        status = int(numeric) if numeric else 400 if "invalid_request" in said else 500
    if "model_not_found" in said:          # under 404, but also 400 and 403
        return "model", False
    if "insufficient_quota" in said or status == 402:
        return "rate_limit", False         # waiting does not fill an account
    if status in (401, 403) or "invalid_api_key" in said:
        return "auth", False
    if status == 404:
        return "model", False
    if status == 429 or "rate_limit" in said:
        return "rate_limit", True
    if status in (408, 409, 425) or status >= 500:
        return "server", status != 501     # 501: not implemented, and it stays so
    return "protocol", False


# --- small matters ---


def _line(value: object) -> str:
    """One printable line, whatever control characters a stranger sends to the terminal."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join("".join(c if c.isprintable() else " " for c in text[:8 * _LONGEST_MESSAGE]).split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE - 1] + "…"


def _word(value: object) -> str:
    return _line(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _excerpt(value: object) -> str:
    text = _line(value)
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
        return True
    except (ValueError, RecursionError):
        return False
