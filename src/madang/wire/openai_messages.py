"""OpenAI's chat requests: messages, tools and options; nouns to JSON for a service, JSON to nouns for our server.

Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from madang.base.messages import AnswerFormat, ChatOptions, Image, Message, Role, Tool, ToolCall, ToolChoice
from madang.wire.openai_fields import Fields, Wrong

MOST_MESSAGES, MOST_TOOLS, MOST_CHOICES, MOST_STOPS, MOST_TOKENS = 10_000, 1_024, 16, 16, 10_000_000
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.-]+)*;base64,", re.IGNORECASE)
_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant",
                           "tool": "tool", "function": "tool"}
_READ = frozenset({
    "model", "messages", "stream", "stream_options", "n", "temperature", "max_tokens", "max_completion_tokens", "top_p",
    "stop", "seed", "presence_penalty", "frequency_penalty", "tools", "tool_choice", "functions", "function_call",
    "parallel_tool_calls", "response_format", "logprobs", "top_logprobs", "reasoning_effort"})


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What POST /chat/completions was asked: `count` answers, of which a stream tells its usage where asked to.

    `functions`: tools were offered as they were before they were called so, and calls are told that way, too.
    """

    model: str
    messages: list[Message]
    options: ChatOptions
    count: int = 1
    stream: bool = False
    include_usage: bool = False
    functions: bool = False


# --- to a service ---


def encode_chat(messages: Sequence[Message], model: str, options: ChatOptions, *,
                stream: bool = True) -> dict[str, Any]:
    """The body of POST /chat/completions. What an option leaves open is left to the service."""
    plain = {"temperature": options.temperature, "max_tokens": options.max_tokens, "top_p": options.top_p,
             "seed": options.seed, "presence_penalty": options.presence_penalty,
             "frequency_penalty": options.frequency_penalty, "reasoning_effort": options.reasoning_effort,
             "stop": list(options.stop) or None, "response_format": encode_format(options.answer_format)}
    body: dict[str, Any] = {"model": model, "messages": [encode_message(message) for message in messages],
                            **{key: value for key, value in plain.items() if value is not None}, "stream": stream}
    if options.logprobs is not None:
        body["logprobs"] = True
        body |= {"top_logprobs": options.logprobs} if options.logprobs else {}
    if options.tools:
        body["tools"] = [encode_tool(tool) for tool in options.tools]
        if options.tool_choice == "named":
            body["tool_choice"] = {"type": "function", "function": {"name": options.tool_name}}
        elif options.tool_choice != "auto":
            body["tool_choice"] = options.tool_choice
        if options.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = options.parallel_tool_calls
    if stream:
        body["stream_options"] = {"include_usage": True}
    return {**options.extra, **body}


def encode_message(message: Message) -> dict[str, Any]:
    """A message as a request holds it; plain text where it has no pictures."""
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.parts:
        found["content"] = [_encode_part(part) for part in message.parts]
    if message.name:
        found["name"] = message.name
    if message.tool_calls:
        found["content"] = found["content"] or None
        found["tool_calls"] = [encode_call(call) for call in message.tool_calls]
    if message.role == "tool":
        found["tool_call_id"] = message.tool_call_id
    return found


def _encode_part(part: str | Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image_url",
            "image_url": {"url": address(part), **({"detail": part.detail} if part.detail else {})}}


def address(image: Image) -> str:
    """A picture's address: where it is, or all of it as a data URL."""
    if image.url:
        return image.url
    return f"data:{image.media_type or 'image/png'};base64,{base64.b64encode(image.data).decode()}"


def encode_call(call: ToolCall) -> dict[str, Any]:
    """A tool call as a message holds it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def encode_tool(tool: Tool) -> dict[str, Any]:
    """A tool as a request offers it."""
    return {"type": "function", "function": {
        "name": tool.name, **({"description": tool.description} if tool.description else {}),
        "parameters": dict(tool.parameters), **({} if tool.strict is None else {"strict": tool.strict})}}


def encode_format(wanted: AnswerFormat | None) -> dict[str, Any] | None:
    """`response_format`; None for text."""
    if wanted is None:
        return None
    if not wanted.schema:
        return {"type": "json_object"}
    inner = {"name": wanted.name, "description": wanted.description or None, "schema": dict(wanted.schema),
             "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": {key: value for key, value in inner.items() if value is not None}}


# --- from a caller ---


def decode_chat_request(body: object) -> ChatRequest:
    """What a caller asks. Raises `Wrong`, which names the field."""
    fields = Fields(body)
    model = fields.text("model")
    if not fields.has("messages"):
        raise fields.missing("messages")
    messages = [decode_message(item) for item in fields.objects("messages", most=MOST_MESSAGES)]
    if not messages:
        raise Wrong("Invalid 'messages': empty array. Expected an array with minimum length 1.", param="messages",
                    code="empty_array")
    answer_format = decode_format(fields.inner("response_format")) if fields.has("response_format") else None
    options = _options(fields, answer_format)
    return ChatRequest(model, messages, options, fields.whole("n", 1, MOST_CHOICES) or 1, fields.flag("stream"),
                       fields.inner("stream_options").flag("include_usage"), fields.has("functions"))


def _options(fields: Fields, answer_format: AnswerFormat | None) -> ChatOptions:
    tools = _tools(fields)
    choice, name = _tool_choice(fields, tools)
    stop = fields.texts("stop", most=MOST_STOPS)
    if any(not each for each in stop):
        raise fields.wrong("stop", "texts that are not empty")
    alternatives = fields.whole("top_logprobs", 0, 20)
    asked = fields.flag("logprobs")
    if alternatives is not None and not asked:
        raise Wrong("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    most = fields.whole("max_completion_tokens", 1, MOST_TOKENS)
    return ChatOptions(
        temperature=fields.number("temperature", 0, 2),
        max_tokens=fields.whole("max_tokens", 1, MOST_TOKENS) if most is None else most,
        top_p=fields.number("top_p", 0, 1), stop=stop, seed=fields.whole("seed", -2**63, 2**63 - 1),
        presence_penalty=fields.number("presence_penalty", -2, 2),
        frequency_penalty=fields.number("frequency_penalty", -2, 2), tools=tools, tool_choice=choice, tool_name=name,
        parallel_tool_calls=fields.flag("parallel_tool_calls") if fields.has("parallel_tool_calls") else None,
        answer_format=answer_format, logprobs=(alternatives or 0) if asked else None,
        reasoning_effort=fields.text("reasoning_effort", "") or None,
        extra={key: value for key, value in fields.value.items() if key not in _READ and value is not None})


def decode_message(fields: Fields) -> Message:
    """One message."""
    role = _ROLES.get(fields.text("role"))
    if role is None:
        raise fields.wrong("role", f"one of {', '.join(map(repr, _ROLES))}")
    calls = tuple(_decode_call(call) for call in fields.objects("tool_calls"))
    if fields.has("function_call"):       # as it was before tools
        old = fields.inner("function_call")
        calls = (ToolCall(old.text("name"), old.text("name"), old.text("arguments", "{}")),)
    parts = _parts(fields)
    if parts is None and not (role == "assistant"):
        raise fields.missing("content")
    text = "".join(part for part in parts or () if isinstance(part, str))
    pictures = any(isinstance(part, Image) for part in parts or ())
    call_id = ""
    if role == "tool":
        call_id = fields.text("name") if fields.value["role"] == "function" else fields.text("tool_call_id")
    return Message(role, text, fields.text("name", ""), tuple(parts or ()) if pictures else (),
                   calls if role == "assistant" else (), call_id)


def _parts(fields: Fields) -> list[str | Image] | None:
    content = fields.value.get("content")
    if content is None or isinstance(content, str):
        return None if content is None else [content]
    if not isinstance(content, list):
        raise fields.wrong_type(fields.path("content"), "a string or an array of parts", content)
    return [decode_part(part) for part in fields.objects("content")]


def decode_part(part: Fields) -> str | Image:
    """A part of a message's content, of chat completions or of responses."""
    kind = part.text("type")
    if kind in ("text", "input_text", "output_text"):
        return part.text("text")
    if kind == "refusal":
        return part.text("refusal")
    if kind == "image_url":
        inner = part.inner("image_url") if isinstance(part.value.get("image_url"), dict) else None
        url, detail = (part.text("image_url"), "") if inner is None else (inner.text("url"), inner.text("detail", ""))
        return image_of(url, detail, part.path("image_url"))
    if kind == "input_image":
        if not part.has("image_url"):
            raise Wrong(f"'{part.where}': pictures are taken as data URLs, not as 'file_id'.",
                        param=part.path("image_url"), code="missing_required_parameter")
        return image_of(part.text("image_url"), part.text("detail", ""), part.path("image_url"))
    raise Wrong(f"Invalid value for '{part.path('type')}': parts of type {kind!r:.60} are not taken.",
                param=part.path("type"), code="invalid_value", remedy="Send text and image_url.")


def image_of(url: str, detail: str, where: str) -> Image:
    """A picture by its address. Raises `Wrong` for what is neither a data URL of a picture nor http(s)."""
    if url[:5].lower() != "data:":
        if not re.match(r"https?://[^/\s]", url, re.IGNORECASE):
            raise Wrong(f"Invalid '{where}': expected a data URL or an http(s) address, but got {url!r:.60}.",
                        param=where, code="invalid_image_url")
        return Image(url=url, detail=detail)
    head = _DATA_URL.match(url)
    kind = (head[1] or "").lower() if head else ""
    if head is None or not kind.startswith("image/"):
        raise Wrong(f"Invalid '{where}': expected a data URL such as 'data:image/png;base64,...', but got "
                    f"{url[:40]!r}.", param=where, code="invalid_image_url")
    try:
        data = base64.b64decode(url[head.end():], validate=True)
    except (binascii.Error, ValueError):
        raise Wrong(f"Invalid '{where}': what follows 'base64,' is not base64.", param=where,
                    code="invalid_base64") from None
    return Image(kind, data, detail=detail)


def _decode_call(call: Fields) -> ToolCall:
    function = call.inner("function")
    return ToolCall(call.text("id"), function.text("name"), function.text("arguments", "{}"))


def decode_tool(function: Fields) -> Tool:
    """A function that is offered: the object with its name."""
    name = function.text("name")
    if not _NAME.fullmatch(name):
        raise function.wrong("name", "letters, digits, _ and -, at most 128 of them")
    strict = function.flag("strict") if function.has("strict") else None
    return Tool(name, function.text("description", ""), function.schema("parameters"), strict)


def _tools(fields: Fields) -> tuple[Tool, ...]:
    found = []
    for tool in fields.objects("tools", most=MOST_TOOLS):
        if tool.text("type", "function") != "function":
            raise tool.wrong("type", "'function'")
        if not tool.has("function"):
            raise tool.missing("function")
        found.append(decode_tool(tool.inner("function")))
    found += [decode_tool(function) for function in fields.objects("functions", most=MOST_TOOLS)]
    return checked_tools(found)


def checked_tools(tools: Sequence[Tool]) -> tuple[Tool, ...]:
    """Raises `Wrong` where two have one name."""
    seen = set[str]()
    for tool in tools:
        if tool.name in seen:
            raise Wrong(f"Invalid 'tools': two are called {tool.name!r}.", param="tools", code="invalid_value")
        seen.add(tool.name)
    return tuple(tools)


def _tool_choice(fields: Fields, tools: Sequence[Tool]) -> tuple[ToolChoice, str]:
    key = "tool_choice" if fields.has("tool_choice") else "function_call"
    return chosen(fields, key, tools)


def chosen(fields: Fields, key: str, tools: Sequence[Tool]) -> tuple[ToolChoice, str]:
    """What `tool_choice` says, in any of its forms: a word, {"function": {"name"}} or {"name"}."""
    value = fields.value.get(key)
    if value is None:
        return "auto", ""
    if isinstance(value, str):
        word = fields.choice(key, ("auto", "none", "required"))
        if word == "required" and not tools:
            raise Wrong(f"'{fields.path(key)}' is 'required', and no 'tools' are offered.", param=fields.path(key),
                        code="invalid_value")
        return cast(ToolChoice, word), ""
    inner = fields.inner(key)
    name = (inner.inner("function") if inner.has("function") else inner).text("name")
    if all(tool.name != name for tool in tools):
        raise Wrong(f"Invalid '{fields.path(key)}': no tool is called {name!r:.80}.", param=fields.path(key),
                    code="invalid_value")
    return "named", name


def decode_format(fields: Fields) -> AnswerFormat | None:
    """`response_format` of chat completions, or `text.format` of responses, which has the schema beside its type."""
    kind = fields.choice("type", ("text", "json_object", "json_schema"))
    if kind == "text":
        return None
    if kind == "json_object":
        return AnswerFormat()
    inner = fields.inner("json_schema") if fields.has("json_schema") else fields
    if not inner.has("schema"):
        raise inner.missing("schema")
    name = inner.text("name")
    if not _NAME.fullmatch(name):
        raise inner.wrong("name", "letters, digits, _ and -, at most 128 of them")
    schema: Mapping[str, Any] = inner.schema("schema")
    if not schema or (schema.get("type", "object") != "object" and "anyOf" not in schema and "$ref" not in schema):
        raise Wrong(f"Invalid schema for response_format {name!r}: schema must be a JSON Schema of 'type: \"object\"'.",
                    param=inner.path("schema"), code="invalid_json_schema")
    return AnswerFormat(schema, name, inner.text("description", ""),
                        inner.flag("strict") if inner.has("strict") else None)


@dataclass(frozen=True, slots=True)
class TextRequest:
    """What POST /completions was asked: `count` answers to each of the prompts, texts or lists of tokens."""

    model: str
    prompts: list[str | list[int]]
    options: ChatOptions
    count: int = 1
    stream: bool = False
    echo: bool = False


def decode_text_request(body: object) -> TextRequest:
    """What a caller asks of POST /completions. Raises `Wrong`, which names the field."""
    fields = Fields(body)
    model = fields.text("model")
    count = fields.whole("n", 1, MOST_CHOICES) or 1
    if fields.has("suffix"):
        raise Wrong("'suffix' is not supported: chat models do not fill in.", param="suffix", code="invalid_value",
                    remedy="Leave it out.")
    if (fields.whole("best_of", 1, MOST_CHOICES) or count) != count:
        raise Wrong("'best_of' is not supported.", param="best_of", code="invalid_value", remedy="Use n.")
    options = ChatOptions(
        temperature=fields.number("temperature", 0, 2), max_tokens=fields.whole("max_tokens", 1, MOST_TOKENS) or 16,
        top_p=fields.number("top_p", 0, 1), stop=fields.texts("stop", most=MOST_STOPS),
        seed=fields.whole("seed", -2**63, 2**63 - 1), presence_penalty=fields.number("presence_penalty", -2, 2),
        frequency_penalty=fields.number("frequency_penalty", -2, 2))
    prompts = texts_or_tokens(fields, "prompt", most=MOST_CHOICES)
    if len(prompts) * count > MOST_CHOICES:
        raise Wrong(f"{len(prompts)} prompts times n = {count} are more than {MOST_CHOICES} answers.", param="n",
                    code="invalid_value")
    return TextRequest(model, prompts, options, count, fields.flag("stream"), fields.flag("echo"))


def texts_or_tokens(fields: Fields, key: str, *, most: int) -> list[str | list[int]]:
    """A text, a list of texts, a list of tokens, or a list of lists of tokens; one entry each."""
    found = fields.value.get(key)
    if found is None:
        raise fields.missing(key)
    if isinstance(found, str):
        return [found]
    items = fields.items(key)
    if items and all(_is_token(item) for item in items):
        return [list(items)]
    if not items:
        raise fields.wrong(key, "something")
    if len(items) > most:
        raise Wrong(f"Invalid '{key}': at most {most} entries are taken, not {len(items)}.", param=key,
                    code="array_above_max_length")
    for number, item in enumerate(items):
        if not isinstance(item, str) and not (isinstance(item, list) and item and all(map(_is_token, item))):
            raise fields.wrong_type(f"{key}[{number}]", "a string or a list of tokens", item)
    return items


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
