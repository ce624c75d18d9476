"""Conversations as chat templates of the Hugging Face hub take them. Knows no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from madang.base.errors import InvalidInput
from madang.base.messages import ChatOptions, Image, Message


def tools(options: ChatOptions) -> list[dict[str, Any]]:
    """The tools that the model shall know of: none, the one that is named, or all."""
    if options.tool_choice == "none":
        return []
    chosen = [tool for tool in options.tools if options.tool_choice != "named" or tool.name == options.tool_name]
    return [{"type": "function", "function": {
        "name": tool.name, "description": tool.description,
        "parameters": dict(tool.parameters) or {"type": "object", "properties": {}}}} for tool in chosen]


def with_instructions(messages: Sequence[Message], options: ChatOptions) -> list[Message]:
    """The conversation, and before it what the model shall be told of the answer's form."""
    told = []
    if options.answer_format is not None:
        told.append("Answer with one JSON object and nothing else.")
        if options.answer_format.schema:
            schema = json.dumps(dict(options.answer_format.schema), ensure_ascii=False)
            told.append(f"It must fit this JSON schema: {schema}")
    if tools(options) and options.tool_choice in ("required", "named"):
        told.append("Call a tool; do not answer yourself.")
    if not told:
        return list(messages)
    words = "\n".join(told)
    if messages[0].role == "system":
        first = messages[0]
        return [Message("system", f"{first.content}\n\n{words}", first.name), *messages[1:]]
    return [Message("system", words), *messages]


def message(each: Message, sees: bool, name: str) -> dict[str, Any]:
    """One message for the model called `name`, which `sees` pictures or does not. Raises `InvalidInput`."""
    made: dict[str, Any] = {"role": each.role, "content": each.content}
    if each.images and not sees:
        raise InvalidInput(f"{name} does not see pictures.", remedy="Ask a model that does.")
    if sees:
        made["content"] = [{"type": "text", "text": part} if isinstance(part, str) else
                           {"type": "image", "image": _picture(part)} for part in each.parts or (each.content,)]
    if each.name:
        made["name"] = each.name
    if each.tool_calls:
        made["tool_calls"] = [{"type": "function", "id": call.id,
                               "function": {"name": call.name, "arguments": _arguments(call.arguments)}}
                              for call in each.tool_calls]
    if each.tool_call_id:
        made["tool_call_id"] = each.tool_call_id
    return made


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _picture(image: Image) -> Any:
    from PIL import Image as Pictures

    if not image.data:
        raise InvalidInput("a picture is known by its address alone, which is not read here.",
                           remedy="Send its bytes, as a data: URL.")
    try:
        return Pictures.open(BytesIO(image.data)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Pictures.DecompressionBombError) as error:
        raise InvalidInput(f"a picture cannot be read: {error}.", remedy="Send a PNG or a JPEG.") from error
