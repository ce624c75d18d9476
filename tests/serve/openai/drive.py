"""What programs do with OpenAI's own client, run with whichever version is installed: python drive.py ADDRESS.

It is not a test by itself: `test_client.py` runs it with the version of this environment, `make clients` with others.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import openai

HANDBOOK = "Employees get 25 days of paid vacation per year.\n\nThe office opens at nine and closes at six."
QUESTION = "How many vacation days do employees get?"
ANSWER = "Employees get 25 days of paid vacation per year."
WEATHER: Any = {"type": "function", "function": {
    "name": "get_weather", "description": "Get the current weather for a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
ASK: Any = [{"role": "system", "content": HANDBOOK}, {"role": "user", "content": QUESTION}]


def chat(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(model="gpt-4o", messages=ASK, temperature=0)
    assert done.choices[0].message.content == ANSWER
    assert done.choices[0].finish_reason == "stop"
    assert done.model == "bundled/reader"
    assert done.usage is not None
    several = client.chat.completions.create(model="gpt-4o", messages=ASK, n=3, stop=["paid"])
    assert [choice.message.content for choice in several.choices] == ["Employees get 25 days of"] * 3
    cut = client.chat.completions.create(model="bundled/reader", messages=ASK, max_tokens=2)
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("Employees get", "length")


def streams(client: openai.OpenAI) -> None:
    told: Any = {"stream_options": {"include_usage": True}}     # the oldest client knows no such argument
    chunks: Any = [*client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True, extra_body=told)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == ANSWER
    assert len(chunks) > 3
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []
    assert chunks[-2].choices[0].finish_reason == "stop"


def tools(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is the weather in Seoul?"}]
    for choice in ("auto", "required", {"type": "function", "function": {"name": "get_weather"}}):
        said = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER], tool_choice=choice)  # type: ignore[arg-type]
        assert said.choices[0].finish_reason == "tool_calls"
        call: Any = (said.choices[0].message.tool_calls or [])[0]
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Seoul"})
    pieces = [*client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER], stream=True)]
    found = [piece for chunk in pieces for piece in chunk.choices[0].delta.tool_calls or []]
    assert found[0].function is not None
    assert found[0].function.name == "get_weather"
    assert pieces[-1].choices[0].finish_reason == "tool_calls"
    messages += [said.choices[0].message.model_dump(exclude_none=True),
                 {"role": "tool", "tool_call_id": call.id, "content": "21 degrees in Seoul."}]
    told = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER])
    assert told.choices[0].message.content == "21 degrees in Seoul."


def formats(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"],
              "additionalProperties": False}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    for response_format in (wanted, {"type": "json_object"}):
        said = client.chat.completions.create(model="gpt-4o", messages=ASK, response_format=response_format)
        assert json.loads(said.choices[0].message.content or "") == {"answer": ANSWER}


def embeddings(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model="text-embedding-3-small", input=["a dog", "a puppy", "a treaty"])
    one, two, three = (item.embedding for item in made.data)
    assert len(one) == 1536
    assert sum(a * b for a, b in zip(one, two, strict=True)) > sum(a * b for a, b in zip(one, three, strict=True))
    plain = client.embeddings.create(model="text-embedding-3-small", input="a dog", encoding_format="float", dimensions=512)
    assert len(plain.data[0].embedding) == 512
    assert all(abs(a - b) < 1e-6 for a, b in zip(plain.data[0].embedding, one, strict=False))
    assert made.model == "bundled/minilm"


def models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"bundled/reader", "bundled/minilm", "gpt-4o", "text-embedding-3-small"} <= {*names}
    assert client.models.retrieve("bundled/minilm").owned_by == "bundled"
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"


def completions(client: openai.OpenAI) -> None:
    prompt = f"{HANDBOOK}\n\n{QUESTION}"
    done = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=[prompt, prompt], max_tokens=50)
    assert [choice.text for choice in done.choices] == [ANSWER, ANSWER]
    pieces = [*client.completions.create(model="gpt-3.5-turbo-instruct", prompt=prompt, stream=True, max_tokens=50)]
    assert "".join(piece.choices[0].text for piece in pieces) == ANSWER


def refusal(call: Callable[[], object]) -> openai.APIStatusError:
    """What a call is refused with."""
    try:
        call()
    except openai.APIStatusError as error:
        return error
    raise AssertionError("it was not refused")


def errors(client: openai.OpenAI) -> None:
    calls: list[tuple[type[openai.APIStatusError], str, Callable[[], object]]] = [
        (openai.NotFoundError, "model_not_found", lambda: client.chat.completions.create(model="nonesuch", messages=ASK)),
        (openai.NotFoundError, "model_not_found", lambda: client.models.retrieve("nonesuch")),
        (openai.NotFoundError, "model_not_found", lambda: client.embeddings.create(model="nonesuch", input="a")),
        (openai.BadRequestError, "empty_array", lambda: client.chat.completions.create(model="gpt-4o", messages=[])),
        (openai.BadRequestError, "invalid_value", lambda: client.chat.completions.create(model="gpt-4o", messages=ASK, temperature=9)),
        (openai.BadRequestError, "invalid_value", lambda: client.embeddings.create(model="text-embedding-3-small", input=""))]
    for kind, code, call in calls:
        error = refusal(call)
        assert isinstance(error, kind), error
        assert error.code == code, error
    error = refusal(lambda: client.images.generate(model="dall-e-3", prompt="a yard"))
    assert error.status_code == 501
    assert "[models] draw" in str(error)


async def asynchronous(address: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="any") as client:
        answers = await asyncio.gather(*(client.chat.completions.create(model="gpt-4o", messages=ASK) for _ in range(8)))
        assert {answer.choices[0].message.content for answer in answers} == {ANSWER}
        stream = await client.chat.completions.create(model="gpt-4o", messages=ASK, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == ANSWER


def drive(address: str) -> None:
    """All of it."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any") as client:
        for part in (chat, streams, tools, formats, embeddings, models, completions, errors):
            part(client)
        if hasattr(client, "responses"):
            import drive_responses

            drive_responses.drive(client)
        if hasattr(client, "vector_stores"):
            import drive_stores

            drive_stores.drive(client)
    asyncio.run(asynchronous(address))


if __name__ == "__main__":
    drive(sys.argv[1])
    print(f"openai {openai.__version__}: all of it works")
