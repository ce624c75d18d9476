"""What programs do with the responses of OpenAI's own client; run by `drive.py` where the client has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai

HANDBOOK = "Employees get 25 days of paid vacation per year.\n\nThe office opens at nine and closes at six."
ANSWER = "Employees get 25 days of paid vacation per year."
QUESTION = "How many vacation days do employees get?"
WEATHER: Any = {"type": "function", "name": "get_weather", "description": "Get the current weather for a city.", "strict": True,
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
                               "additionalProperties": False}}
ORDER = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
         "response.output_text.delta", "response.output_text.done", "response.content_part.done",
         "response.output_item.done", "response.completed"]
CALLED = ["response.created", "response.in_progress", "response.output_item.added", "response.function_call_arguments.delta",
          "response.function_call_arguments.done", "response.output_item.done", "response.completed"]


def drive_refusal(call: Callable[[], object]) -> openai.APIStatusError:
    try:
        call()
    except openai.APIStatusError as error:
        return error
    raise AssertionError("it was not refused")


def once(values: list[str]) -> list[str]:
    return [value for place, value in enumerate(values) if not place or values[place - 1] != value]


def texts(client: openai.OpenAI) -> None:
    said = client.responses.create(model="gpt-4o", instructions=HANDBOOK, input=QUESTION)
    assert said.output_text == ANSWER
    assert said.status == "completed"
    events: Any = [*client.responses.create(model="gpt-4o", instructions=HANDBOOK, input=QUESTION, stream=True)]
    assert once([event.type for event in events]) == ORDER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == ANSWER
    assert client.responses.retrieve(said.id).output_text == ANSWER
    client.responses.delete(said.id)
    assert drive_refusal(lambda: client.responses.retrieve(said.id)).status_code == 404


def conversations(client: openai.OpenAI) -> None:
    first = client.responses.create(model="gpt-4o", input=f"Remember: {HANDBOOK}")
    then = client.responses.create(model="gpt-4o", input=QUESTION, previous_response_id=first.id)
    assert "25 days" in then.output_text
    assert then.previous_response_id == first.id
    error = drive_refusal(lambda: client.responses.create(model="gpt-4o", input=QUESTION, previous_response_id="resp_no"))
    assert error.code == "previous_response_not_found"


def tools(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": [{"type": "input_text", "text": "What is the weather in Seoul?"}]}]
    said: Any = client.responses.create(model="gpt-4o", input=asked, tools=[WEATHER])
    call = said.output[0]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", {"city": "Seoul"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees in Seoul."}
    whole = client.responses.create(model="gpt-4o", input=[*asked, call.model_dump(), result], tools=[WEATHER])
    assert whole.output_text == "21 degrees in Seoul."
    rest: Any = client.responses.create(model="gpt-4o", input=[result], previous_response_id=said.id, tools=[WEATHER])  # type: ignore[list-item]
    assert rest.output_text == "21 degrees in Seoul."
    events = [*client.responses.create(model="gpt-4o", input=asked, tools=[WEATHER], stream=True)]
    assert once([event.type for event in events]) == CALLED


def formats(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"], "additionalProperties": False}
    wanted: Any = {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}}
    said = client.responses.create(model="gpt-4o", instructions=HANDBOOK, input=QUESTION, text=wanted)
    assert json.loads(said.output_text) == {"answer": ANSWER}


def drive(client: openai.OpenAI) -> None:
    """All of it."""
    for part in (texts, conversations, tools, formats):
        part(client)
